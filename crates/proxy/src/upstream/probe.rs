//! Active probes: one request, one verdict. What follows from it is decided in `rules::health`.

use super::connect::connect_any;
use super::endpoint::{Endpoint, Place};
use crate::observe::events::Level;
use crate::stream::Stream;
use crate::worker::Shared;
use penstock_plan::HealthCheck;
use penstock_rules::error::Kind;
use penstock_rules::health::{Health, Outcome, Schedule, State};
use penstock_rules::http::{HeadLimits, HeadScan, ResponseHead, Scanned};
use serde_json::json;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::task::ready;
use std::time::Instant;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A probe reads no more of an answer than its head.
const HEAD: usize = 16 * 1024;

/// Probe `endpoint` for as long as this runs.
pub(crate) async fn follow(upstream: String, endpoint: Arc<Endpoint>, check: HealthCheck, shared: Arc<Shared>) {
    let schedule = Schedule::new(&check);
    let mut health = Health::new(Instant::now());
    if endpoint.is_down() {
        // What an earlier plan's probes found still holds.
        (0..check.fall.max(1)).for_each(|_| {
            health.observe(Outcome::Timeout, check.fall, check.rise, Instant::now());
        });
    } else {
        endpoint.set_health(false, "not yet probed".into());
    }
    let mut known = false;
    let mut wait = schedule.first(random());
    loop {
        tokio::time::sleep(wait).await;
        let outcome = probe(&endpoint, &check).await;
        if let Some(change) = health.observe(outcome, check.fall, check.rise, Instant::now()) {
            let down = change.state == State::Down;
            endpoint.set_health(down, change.reason.to_string());
            let (level, word) = if down { (Level::Warning, "down") } else { (Level::Info, "up") };
            let message = format!("{upstream}/{} is {word}: {}", endpoint.address, change.reason);
            let fields = [("upstream", json!(upstream)), ("endpoint", json!(endpoint.address)), ("state", json!(word))];
            shared.events.add(level, "health", message, &fields);
            tell_of_all(&upstream, down, &shared);
        } else if !known && health.state() == State::Up && outcome.is_success() {
            endpoint.set_health(false, outcome.to_string());
        }
        known = true;
        wait = schedule.next(random());
    }
}

/// Say when this change left an upstream without an endpoint that is up, or ended that.
fn tell_of_all(upstream: &str, down: bool, shared: &Shared) {
    let snapshot = shared.snapshot.load();
    let Some(settings) = snapshot.as_ref().and_then(|plan| plan.upstreams.iter().find(|one| one.plan.name == upstream))
    else {
        return;
    };
    let up = settings.endpoints.iter().filter(|endpoint| !endpoint.is_down()).count();
    let (level, state, message) = match (down, up) {
        (true, 0) => (Level::Error, "all_down", "every endpoint fails its probes: requests go to all of them"),
        (false, 1) => (Level::Info, "some_up", "an endpoint passes its probes again: requests go to it"),
        _ => return,
    };
    let fields = [("upstream", json!(upstream)), ("state", json!(state))];
    shared.events.add(level, "health", format!("{upstream}: {message}"), &fields);
}

/// One probe.
async fn probe(endpoint: &Endpoint, check: &HealthCheck) -> Outcome {
    timeout(check.timeout, ask(endpoint, check)).await.unwrap_or(Outcome::Timeout)
}

async fn ask(endpoint: &Endpoint, check: &HealthCheck) -> Outcome {
    let opened = match &endpoint.place {
        Place::Tcp { addresses, .. } => connect_any(&addresses.load(), check.timeout).await,
        Place::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix).map_err(|_| Kind::ConnectRefused),
    };
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(Kind::Unresolved) => return Outcome::Unresolved,
        Err(Kind::ConnectRefused) => return Outcome::Refused,
        Err(Kind::ConnectTimeout) => return Outcome::Timeout,
        Err(_) => return Outcome::Unreachable,
    };
    let host = if endpoint.address.starts_with("unix:") { "localhost" } else { &endpoint.address };
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {host}\r\nuser-agent: penstock-probe\r\nconnection: close\r\n\r\n",
        check.path
    );
    talk(&mut stream, request.as_bytes()).await.unwrap_or(Outcome::BadResponse)
}

async fn talk(stream: &mut Stream, request: &[u8]) -> Option<Outcome> {
    let mut sent = 0;
    poll_fn(|cx| {
        while let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) {
            sent += ready!(stream.poll_write(cx, rest))?;
        }
        std::task::Poll::Ready(std::io::Result::Ok(()))
    })
    .await
    .ok()?;
    let (mut input, mut filled, mut scan) = (vec![0; HEAD], 0, HeadScan::default());
    loop {
        let count = poll_fn(|cx| stream.poll_read(cx, input.get_mut(filled..).unwrap_or_default())).await.ok()?;
        if count == 0 {
            return None;
        }
        filled += count;
        if let Scanned::Head { start, end } = scan.advance(input.get(..filled)?).ok()? {
            let mut head = ResponseHead::default();
            head.parse(input.get(start..end)?, &HeadLimits { bytes: HEAD, fields: 200, uri: 0 }, false).ok()?;
            return Some(Outcome::Status(head.status));
        }
    }
}

/// Jitter needs no good dice.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
