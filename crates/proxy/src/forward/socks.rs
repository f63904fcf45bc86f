//! Clients that speak SOCKS where a forward proxy listens: told from HTTP by their first byte, heard here until they have said where
//! they want to go, and from then on a tunnel like that of any `CONNECT`; or an association of datagrams.

use super::associate;
use crate::clock::Tick;
use crate::codec::Outgoing;
use crate::codec::h1::H1;
use crate::contain::contain;
use crate::exchange::{self, Exchange};
use crate::forward::Forward;
use crate::respond;
use penstock_rules::error::Kind;
use penstock_rules::forward::socks::{self, Command, Method, Socks, Wrong};
use penstock_rules::http::{RequestHead, ResponseHead};
use penstock_rules::users::Login;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// The version that the client begins to speak, if it speaks SOCKS.
pub(crate) fn begins(input: &[u8]) -> Option<Socks> {
    input.first().copied().and_then(Socks::of)
}

/// Serve a client that began so; `exchange` is what its one request is told. `until`: all is to be said by then.
pub(crate) async fn serve(exchange: &Exchange<'_>, down: &mut H1, version: Socks, until: Tick) {
    let Exchange { worker, local, origin, .. } = *exchange;
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let (command, login) = match hear(exchange, down, (version, until), &mut request).await {
        Ok(heard) => heard,
        Err(kind) => {
            // What is said last is still on its way.
            let _ = poll_fn(|cx| down.poll_flush(cx)).await;
            respond::refuse_connection(worker, (local, origin), kind);
            return;
        }
    };
    if worker.is_overloaded() {
        down.wire.out.extend_from_slice(version.refused(Kind::Overloaded.status()));
        let _ = poll_fn(|cx| down.poll_flush(cx)).await;
        respond::refuse_connection(worker, (local, origin), Kind::Overloaded);
        return;
    }
    if command == Command::Associate {
        return associate::serve(exchange, down, login.map(|login| login.user)).await;
    }
    down.speak_socks(version);
    let under_way = worker.counters().requests.raise();
    let run = async {
        match &exchange.listener.capture {
            None => exchange::run(exchange, down, &mut request, &mut response).await,
            Some(capture) => exchange::run_tapped(exchange, capture, down, &mut request, &mut response).await,
        }
    };
    if contain(worker, pin!(run)).await.is_err() {
        down.aborted = true;
        respond::refuse_connection(worker, (local, origin), Kind::Internal);
    }
    drop(under_way);
}

/// Hear who the client is, and what it wants.
async fn hear(
    exchange: &Exchange<'_>,
    down: &mut H1,
    (version, until): (Socks, Tick),
    request: &mut RequestHead,
) -> Result<(Command, Option<Login>), Kind> {
    let forward = exchange.listener.forward.as_deref().ok_or(Kind::Internal)?;
    let mut login = None;
    if version == Socks::V5 {
        let named = forward.users.is_some();
        let method = read(down, until, |input| socks::read_greeting(input, named)).await?;
        let method = method.map_err(|_| Kind::BadSocks)?;
        down.wire.out.extend_from_slice(method.chosen());
        if method == Method::Unknown {
            return Err(if named { Kind::UserMissing } else { Kind::BadSocks });
        }
        poll_fn(|cx| down.poll_flush(cx)).await?;
        if method == Method::Password {
            let said = read(down, until, socks::read_login).await?.map_err(|_| Kind::BadSocks)?;
            let proved = prove(exchange, forward, said.as_ref()).await;
            down.wire.out.extend_from_slice(socks::proved(proved.is_ok()));
            proved?;
            poll_fn(|cx| down.poll_flush(cx)).await?;
            login = said;
        }
    } else if forward.users.is_some() {
        // Whom it says it is, nobody can see.
        down.wire.out.extend_from_slice(version.refused(Kind::UserMissing.status()));
        return Err(Kind::UserMissing);
    }
    let asked = read(down, until, |input| version.read_request(input)).await?;
    let understood = asked.and_then(|command| {
        if let Command::Connect(place) = &command {
            socks::tunnel_to(place, login.as_ref(), request)?;
        }
        Ok(command)
    });
    let command = understood.map_err(|wrong| {
        down.wire.out.extend_from_slice(version.wrong(wrong));
        Kind::BadSocks
    })?;
    Ok((command, login))
}

/// Who is not served anyway is not told whether that is a password.
async fn prove(exchange: &Exchange<'_>, forward: &Forward, login: Option<&Login>) -> Result<(), Kind> {
    let client = exchange.origin.peer.map(|peer| peer.ip());
    forward.leave.client(client)?;
    let Some(users) = &forward.users else { return Ok(()) };
    users.prove(exchange.worker, login.ok_or(Kind::UserRefused)?, client).await
}

/// Read until `parse` has a verdict.
async fn read<T>(
    down: &mut H1,
    until: Tick,
    mut parse: impl FnMut(&[u8]) -> socks::Read<T>,
) -> Result<Result<T, Wrong>, Kind> {
    loop {
        match parse(down.wire.input()) {
            Ok(Some((said, length))) => {
                down.wire.consume(length);
                return Ok(Ok(said));
            }
            Ok(None) => more(down, until).await?,
            Err(wrong) => return Ok(Err(wrong)),
        }
    }
}

async fn more(down: &mut H1, until: Tick) -> Result<(), Kind> {
    poll_fn(|cx| match down.wire.poll_fill(cx, socks::LONGEST, false) {
        Poll::Ready(Ok(1..)) => Poll::Ready(Ok(())),
        Poll::Ready(_) => Poll::Ready(Err(Kind::ClientClosed)),
        Poll::Pending if down.alarm.clock().now() >= until => Poll::Ready(Err(Kind::HeadTimeout)),
        Poll::Pending => {
            down.alarm.clear();
            down.alarm.lower(until);
            Poll::Pending
        }
    })
    .await
}
