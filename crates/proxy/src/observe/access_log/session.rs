//! The records of sessions of layer 4.

use super::format::{Stamp, address, millis_of, number, put, text, time};
use penstock_plan::LogFormat;
use penstock_rules::error::Side;
use penstock_rules::session::End;
use std::net::SocketAddr;
use std::time::Duration;

/// One session, whole.
pub(crate) struct SessionRecord<'a> {
    pub(crate) peer: Option<SocketAddr>,
    /// Who has proved to be whom, where a forward proxy wants that.
    pub(crate) user: Option<&'a str>,
    /// The host that its TLS asks for, where that was read.
    pub(crate) sni: Option<&'a str>,
    pub(crate) listener: &'a str,
    pub(crate) route: &'a str,
    pub(crate) upstream: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// To the endpoint and to the client, where it is datagrams that went.
    pub(crate) datagrams: Option<[u64; 2]>,
    pub(crate) queued: Duration,
    pub(crate) connect: Duration,
    pub(crate) total: Duration,
    pub(crate) attempts: u32,
    /// Connections of the worker, and of the listener.
    pub(crate) open: [u64; 2],
    /// Sessions of the endpoint.
    pub(crate) in_flight: u64,
    pub(crate) end: End,
}

pub(super) fn write(format: LogFormat, record: &SessionRecord<'_>, stamp: &mut Stamp, to: &mut Vec<u8>) {
    match format {
        LogFormat::Json => json(record, stamp, to),
        LogFormat::Combined => combined(record, stamp, to),
        LogFormat::Haproxy => haproxy(record, stamp, to),
    }
}

fn json(record: &SessionRecord<'_>, stamp: &mut Stamp, to: &mut Vec<u8>) {
    time(stamp, to);
    put(to, b"\"client\":\"");
    address(record.peer.map(|peer| peer.ip()), to);
    if let Some(user) = record.user {
        text(to, b"\",\"user\":\"", user.as_bytes());
    }
    put(to, if record.datagrams.is_some() { b"\",\"protocol\":\"udp" } else { b"\",\"protocol\":\"tcp" });
    text(to, b"\",\"listener\":\"", record.listener.as_bytes());
    if let Some(sni) = record.sni {
        text(to, b"\",\"sni\":\"", sni.as_bytes());
    }
    text(to, b"\",\"route\":\"", record.route.as_bytes());
    text(to, b"\",\"upstream\":\"", record.upstream.as_bytes());
    text(to, b"\",\"endpoint\":\"", record.endpoint.as_bytes());
    number(to, b"\",\"bytes_in\":", record.bytes_in);
    number(to, b",\"bytes_out\":", record.bytes_out);
    if let Some([datagrams_in, datagrams_out]) = record.datagrams {
        number(to, b",\"datagrams_in\":", datagrams_in);
        number(to, b",\"datagrams_out\":", datagrams_out);
    }
    millis_of(to, b",\"queue_ms\":", record.queued);
    millis_of(to, b",\"connect_ms\":", record.connect);
    millis_of(to, b",\"total_ms\":", record.total);
    number(to, b",\"retries\":", u64::from(record.attempts.saturating_sub(1)));
    let outcome = match record.end.side() {
        None => "ok",
        // Nobody closes a session of datagrams: silence is its end.
        _ if record.datagrams.is_some() && record.end == End::Idle => "ok",
        Some(Side::Downstream) => "client_error",
        Some(Side::Upstream) => "upstream_error",
        Some(Side::Proxy) => "proxy_error",
    };
    text(to, b",\"outcome\":\"", outcome.as_bytes());
    text(to, b"\",\"ended\":\"", record.end.word().as_bytes());
    put(to, b"\"}\n");
}

/// There is no request and no status: the places of both are empty.
fn combined(record: &SessionRecord<'_>, stamp: &mut Stamp, to: &mut Vec<u8>) {
    stamp.set();
    address(record.peer.map(|peer| peer.ip()), to);
    put(to, b" - - [");
    put(to, stamp.common().as_bytes());
    number(to, b"] \"-\" - ", record.bytes_out);
    put(to, b" \"-\" \"-\"\n");
}

/// In the order of HAProxy's log of TCP: `client [time] listener upstream/endpoint Tw/Tc/Tt bytes flags` and counts.
fn haproxy(record: &SessionRecord<'_>, stamp: &mut Stamp, to: &mut Vec<u8>) {
    let millis = stamp.set();
    let whole = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    address(record.peer.map(|peer| peer.ip()), to);
    number(to, b":", record.peer.map_or(0, |peer| u64::from(peer.port())));
    put(to, b" [");
    put(to, stamp.common().strip_suffix(" +0000").unwrap_or_default().as_bytes());
    put(to, format!(".{millis:03}] ").as_bytes());
    text(to, b"", record.listener.as_bytes());
    text(to, b" ", or(record.upstream, "-").as_bytes());
    text(to, b"/", or(record.endpoint, "<NOSRV>").as_bytes());
    number(to, b" ", whole(record.queued));
    number(to, b"/", whole(record.connect));
    number(to, b"/", whole(record.total));
    number(to, b" ", record.bytes_out);
    put(to, b" ");
    put(to, &record.end.flags());
    number(to, b" ", record.open[0]);
    number(to, b"/", record.open[1]);
    number(to, b"/", record.in_flight);
    number(to, b"/", record.in_flight);
    number(to, b"/", u64::from(record.attempts.saturating_sub(1)));
    put(to, b" 0/0\n");
}

fn or<'n>(name: &'n str, none: &'n str) -> &'n str {
    if name.is_empty() { none } else { name }
}
