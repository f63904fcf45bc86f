//! Faults on demand, for tests of what happens then (docs/testing.md). Only in a process that was started with
//! `PENSTOCK_FAULTS=1`: elsewhere a request that asks for one is a request like any other.

use crate::worker::Worker;
use penstock_rules::http::RequestHead;
use std::time::{Duration, Instant};

/// Where on its way a request can be struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its head was read.
    Head,
    /// Its filters ran.
    Filter,
    /// Some of its answer was sent.
    Body,
}

/// Whether this process was started to be struck.
pub(crate) fn are_wanted() -> bool {
    std::env::var_os("PENSTOCK_FAULTS").is_some_and(|value| value == "1")
}

/// Do what the request's `Penstock-Fault` asks for at `place`: `panic PLACE`, `spin PLACE MILLISECONDS`, `block PLACE
/// MILLISECONDS`.
#[inline]
pub(crate) fn strike(worker: &Worker, place: Place, request: &RequestHead) {
    if worker.shared.faults {
        obey(place, request);
    }
}

#[cold]
#[allow(clippy::panic)] // It is what was asked for.
fn obey(place: Place, request: &RequestHead) {
    let Some(words) = request.fields.get("penstock-fault").and_then(|words| std::str::from_utf8(words).ok()) else {
        return;
    };
    let mut words = words.split_whitespace();
    let (fault, at) = (words.next(), words.next());
    let wait = Duration::from_millis(words.next().and_then(|wait| wait.parse().ok()).unwrap_or(0));
    let here = match place {
        Place::Head => "head",
        Place::Filter => "filter",
        Place::Body => "body",
    };
    if at != Some(here) {
        return;
    }
    match fault {
        Some("panic") => panic!("a panic that was asked for"),
        Some("spin") => {
            let until = Instant::now() + wait;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        Some("block") => std::thread::sleep(wait),
        _ => {}
    }
}
