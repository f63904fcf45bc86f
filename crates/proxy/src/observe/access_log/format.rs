//! How a record looks. Whatever came from the network is escaped: a record is one line, whatever a client sent (safety.md 146).

use crate::connection::Origin;
use crate::exchange::Story;
use crate::tls::Secured;
use penstock_plan::LogFormat;
use penstock_rules::error::{Kind, Side};
use penstock_rules::http::{Known, RequestHead};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a reason: an endpoint's certificate can have many names.
const LONGEST_REASON: usize = 300;
/// Bytes of what a client sent in one member: a record's size is not the client's to choose.
const LONGEST_VALUE: usize = 2048;
/// What stands behind a value that was longer.
const CUT: &[u8] = b"[cut]";

/// One exchange, whole.
pub(crate) struct Record<'a> {
    pub(crate) story: &'a Story<'a>,
    pub(crate) request: &'a RequestHead,
    pub(crate) total: Duration,
    pub(crate) bytes_in: u64,
}

/// What never became a request.
pub(crate) struct Refusal<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) kind: Kind,
    pub(crate) id: &'a [u8],
    pub(crate) bytes_out: u64,
}

/// The time of the last record, written out: most records share their second with the one before.
#[derive(Default)]
pub(crate) struct Stamp {
    second: u64,
    /// `2026-11-23T16:21:00`
    iso: String,
    /// `23/Nov/2026:16:21:00 +0000`
    common: String,
}

impl Stamp {
    pub(super) fn common(&self) -> &str {
        &self.common
    }

    pub(super) fn set(&mut self) -> u32 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != now.as_secs() || self.iso.is_empty() {
            self.second = now.as_secs();
            self.write();
        }
        now.subsec_millis()
    }

    /// Now, as RFC 3339 writes it, with milliseconds.
    pub(crate) fn rfc3339(&mut self) -> String {
        let millis = self.set();
        format!("{}.{millis:03}Z", self.iso)
    }

    fn write(&mut self) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month, day) = date(self.second / 86_400);
        let of_day = self.second % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        self.iso = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
        self.common = format!("{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000");
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// One JSON object.
pub(crate) fn json(record: &Record<'_>, query: bool, stamp: &mut Stamp, to: &mut Vec<u8>) {
    let Record { story, request, .. } = record;
    time(stamp, to);
    put(to, b"\"client\":\"");
    address(story.client, to);
    if let Some(user) = &story.user {
        text(to, b"\",\"user\":\"", user.as_bytes());
    }
    text(to, b"\",\"listener\":\"", story.exchange.listener.plan.name.as_bytes());
    text(to, b"\",\"method\":\"", request.method().as_bytes());
    sent(to, b"\",\"host\":\"", request.host().as_bytes());
    sent(to, b"\",\"target\":\"", of(request.raw_target().as_bytes(), query));
    put(to, b"\",\"version\":\"");
    put(to, request.version.number().as_bytes());
    put(to, b"\"");
    if let Some(secured) = &story.exchange.origin.secured {
        tls(secured, to);
    }
    number(to, b",\"status\":", u64::from(story.status));
    text(to, b",\"route\":\"", story.route.map_or("", |route| route.plan.name.as_str()).as_bytes());
    text(to, b"\",\"upstream\":\"", story.upstream.map_or("", |upstream| upstream.plan.name.as_str()).as_bytes());
    text(to, b"\",\"endpoint\":\"", endpoint(story).as_bytes());
    number(to, b"\",\"bytes_in\":", record.bytes_in);
    number(to, b",\"bytes_out\":", story.bytes_out);
    millis_of(to, b",\"queue_ms\":", story.queued);
    millis_of(to, b",\"connect_ms\":", story.connect);
    put(to, b",\"first_byte_ms\":");
    match story.answered {
        Some(answered) => millis_of(to, b"", answered),
        None => put(to, b"null"),
    }
    if let Some(took) = story.auth {
        millis_of(to, b",\"auth_ms\":", took);
    }
    millis_of(to, b",\"total_ms\":", record.total);
    number(to, b",\"retries\":", u64::from(story.attempts.saturating_sub(1)));
    put(to, if story.reused { b",\"reused\":true" } else { b",\"reused\":false" });
    if let Some(rule) = story.rule {
        text(to, b",\"rule\":\"", rule.name.as_bytes());
        put(to, b"\"");
        if let (Some(hit), Some(Kind::RuleDenied)) = (&story.listed, story.error) {
            text(to, b",\"list\":\"", hit.list.as_bytes());
            text(to, b"\",\"list_line\":\"", hit.source.as_bytes());
            number(to, b":", u64::from(hit.line));
            put(to, b"\"");
        }
        if let Some(word) = story.opening(request) {
            text(to, b",\"interception\":\"", word.as_bytes());
            put(to, b"\"");
        }
    }
    if let Some(mirrored) = story.mirrored {
        let upstreams = &story.exchange.local.snapshot.upstreams;
        let name = upstreams.get(mirrored.upstream as usize).map_or("", |upstream| upstream.plan.name.as_str());
        text(to, b",\"mirror\":\"", name.as_bytes());
        text(to, b"\",\"mirror_copy\":\"", mirrored.copied.word().as_bytes());
        put(to, b"\"");
    }
    sent(to, b",\"request_id\":\"", story.id(request));
    sent(to, b"\",\"user_agent\":\"", request.fields.known(Known::UserAgent).unwrap_or_default());
    let referer = request.fields.known(Known::Referer).unwrap_or_default();
    sent(to, b"\",\"referer\":\"", of(referer, query));
    text(to, b"\",\"outcome\":\"", outcome(story).as_bytes());
    text(to, b"\",\"cause\":\"", story.error.map_or("", Kind::word).as_bytes());
    if let (Some(reason), Some(_)) = (&story.reason, story.error) {
        let reason = reason.as_bytes();
        text(to, b"\",\"reason\":\"", reason.get(..LONGEST_REASON).unwrap_or(reason));
    }
    put(to, b"\"}\n");
}

/// The beginning of a JSON object, with the time.
pub(super) fn time(stamp: &mut Stamp, to: &mut Vec<u8>) {
    let millis = stamp.set();
    put(to, b"{\"time\":\"");
    put(to, stamp.iso.as_bytes());
    put(to, b".");
    put(to, &[b'0' + (millis / 100) as u8, b'0' + (millis / 10 % 10) as u8, b'0' + (millis % 10) as u8]);
    put(to, b"Z\",");
}

/// What is known of the connection's handshake, as further members.
fn tls(secured: &Secured, to: &mut Vec<u8>) {
    text(to, b",\"tls_version\":\"", secured.version.as_bytes());
    text(to, b"\",\"tls_cipher\":\"", secured.cipher.as_bytes());
    sent(to, b"\",\"sni\":\"", secured.sni.as_deref().unwrap_or_default().as_bytes());
    put(to, if secured.resumed { b"\",\"tls_resumed\":true" } else { b"\",\"tls_resumed\":false" });
    millis_of(to, b",\"tls_ms\":", secured.took);
}

/// The combined log format.
pub(crate) fn combined(record: &Record<'_>, query: bool, stamp: &mut Stamp, to: &mut Vec<u8>) {
    let Record { story, request, .. } = record;
    stamp.set();
    address(story.client, to);
    match &story.user {
        None => put(to, b" - - ["),
        Some(user) => {
            name(to, b" - ", user);
            put(to, b" [");
        }
    }
    put(to, stamp.common.as_bytes());
    text(to, b"] \"", request.method().as_bytes());
    sent(to, b" ", of(request.raw_target().as_bytes(), query));
    put(to, b" ");
    put(to, request.version.as_str().as_bytes());
    number(to, b"\" ", u64::from(story.status));
    number(to, b" ", story.body_out);
    or_dash(to, b" \"", request.fields.known(Known::Referer).map(|referer| of(referer, query)));
    or_dash(to, b"\" \"", request.fields.known(Known::UserAgent));
    put(to, b"\"\n");
}

/// Timers and termination flags in HAProxy's order: `client [time] listener upstream/endpoint TR/Tw/Tc/Tr/Ta status bytes - -
/// flags`, with the request line last.
pub(crate) fn haproxy(record: &Record<'_>, query: bool, stamp: &mut Stamp, to: &mut Vec<u8>) {
    let Record { story, request, .. } = record;
    let millis = stamp.set();
    address(story.client, to);
    number(to, b":", story.exchange.origin.peer.map_or(0, |peer| u64::from(peer.port())));
    put(to, b" [");
    put(to, stamp.common.strip_suffix(" +0000").unwrap_or(&stamp.common).as_bytes());
    put(to, format!(".{millis:03}] ").as_bytes());
    text(to, b"", story.exchange.listener.plan.name.as_bytes());
    text(to, b" ", story.upstream.map_or("-", |upstream| upstream.plan.name.as_str()).as_bytes());
    let endpoint = match endpoint(story) {
        "" => "<NOSRV>",
        endpoint => endpoint,
    };
    text(to, b"/", endpoint.as_bytes());
    number(to, b" 0/", story.queued.as_millis().try_into().unwrap_or(u64::MAX));
    number(to, b"/", story.connect.as_millis().try_into().unwrap_or(u64::MAX));
    match story.answered {
        Some(answered) => {
            let answered = answered.saturating_sub(story.connect + story.spent).as_millis();
            number(to, b"/", answered.try_into().unwrap_or(u64::MAX));
        }
        None => put(to, b"/-1"),
    }
    number(to, b"/", record.total.as_millis().try_into().unwrap_or(u64::MAX));
    number(to, b" ", u64::from(story.status));
    number(to, b" ", story.bytes_out);
    put(to, b" - - ");
    put(to, &flags(story));
    number(to, b"-- ", story.exchange.worker.counters().connections.get());
    number(to, b"/", story.exchange.origin.listener.counters.of(story.exchange.worker.index).open.get());
    let in_flight = story.endpoint.as_ref().map_or(0, |endpoint| endpoint.endpoint.counters().in_flight.get());
    number(to, b"/", in_flight);
    number(to, b"/", in_flight);
    number(to, b"/", u64::from(story.attempts.saturating_sub(1)));
    text(to, b" 0/0 \"", request.method().as_bytes());
    sent(to, b" ", of(request.raw_target().as_bytes(), query));
    put(to, b" ");
    put(to, request.version.as_str().as_bytes());
    put(to, b"\"\n");
}

/// A record of what never became a request.
pub(crate) fn refused(format: LogFormat, refusal: &Refusal<'_>, stamp: &mut Stamp, to: &mut Vec<u8>) {
    let Refusal { origin, kind, id, bytes_out } = *refusal;
    let millis = stamp.set();
    let client = origin.peer.map(|peer| peer.ip());
    let status = u64::from(kind.status());
    match format {
        LogFormat::Json => {
            put(to, format!("{{\"time\":\"{}.{millis:03}Z\",\"client\":\"", stamp.iso).as_bytes());
            address(client, to);
            text(to, b"\",\"listener\":\"", origin.listener.name.as_bytes());
            number(to, b"\",\"status\":", status);
            number(to, b",\"bytes_out\":", bytes_out);
            text(to, b",\"request_id\":\"", id);
            let outcome = if kind.side() == Side::Proxy { "proxy_error" } else { "refused" };
            text(to, b"\",\"outcome\":\"", outcome.as_bytes());
            text(to, b"\",\"cause\":\"", kind.word().as_bytes());
            put(to, b"\"}\n");
        }
        LogFormat::Combined => {
            address(client, to);
            put(to, format!(" - - [{}] \"-\" {status} {bytes_out} \"-\" \"-\"\n", stamp.common).as_bytes());
        }
        LogFormat::Haproxy => {
            address(client, to);
            let port = origin.peer.as_ref().map_or(0, SocketAddr::port);
            let time = stamp.common.strip_suffix(" +0000").unwrap_or(&stamp.common);
            let name = &origin.listener.name;
            let line = format!(
                ":{port} [{time}.{millis:03}] {name} {name}/<NOSRV> -1/-1/-1/-1/0 {status} {bytes_out} - - PR-- 0/0/0/0/0 0/0 \"<BADREQ>\"\n"
            );
            put(to, line.as_bytes());
        }
    }
}

/// One plain word for how it ended.
fn outcome(story: &Story<'_>) -> &'static str {
    match (story.error.map(Kind::side), story.upgraded) {
        (None, true) => "tunnel",
        (None, false) => "ok",
        (Some(Side::Downstream), _) => "client_error",
        (Some(Side::Upstream), _) => "upstream_error",
        (Some(Side::Proxy), _) => "proxy_error",
    }
}

/// Who ended it (C client, c client's timeout, S server, s server's timeout, P proxy, - nobody) and when (R request, C connect,
/// H response head, D body, - end).
fn flags(story: &Story<'_>) -> [u8; 2] {
    let Some(kind) = story.error else { return *b"--" };
    let who = match kind {
        Kind::BodyTimeout | Kind::BodyTooSlow | Kind::ClientWriteTimeout | Kind::ClientTooSlow | Kind::HeadTimeout => {
            b'c'
        }
        Kind::ConnectTimeout
        | Kind::UpstreamTlsTimeout
        | Kind::UpstreamHeadTimeout
        | Kind::UpstreamBodyTimeout
        | Kind::UpstreamWriteTimeout
        | Kind::AuthTimeout => b's',
        Kind::ClientClosed => b'C',
        kind if kind.side() == Side::Upstream => b'S',
        _ => b'P',
    };
    let when = match kind {
        Kind::ConnectRefused | Kind::ConnectTimeout | Kind::ConnectFailed | Kind::Unresolved | Kind::NoEndpoint => b'C',
        Kind::UpstreamCertificate | Kind::UpstreamTlsTimeout => b'C',
        Kind::UpstreamTlsFailed if story.answered.is_none() => b'C',
        _ if story.answered.is_some() => b'D',
        _ if story.attempts > 0 => b'H',
        _ => b'R',
    };
    [who, when]
}

fn endpoint<'a>(story: &'a Story<'_>) -> &'a str {
    story.endpoint.as_ref().map_or("", |endpoint| &endpoint.endpoint.shared.address)
}

pub(super) fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(bytes);
}

pub(super) fn number(to: &mut Vec<u8>, before: &[u8], value: u64) {
    put(to, before);
    put(to, itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals.
pub(super) fn millis_of(to: &mut Vec<u8>, before: &[u8], value: Duration) {
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    number(to, before, micros / 1000);
    let rest = micros % 1000;
    put(to, &[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

fn or_dash(to: &mut Vec<u8>, before: &[u8], value: Option<&[u8]>) {
    sent(to, before, value.filter(|value| !value.is_empty()).unwrap_or(b"-"));
}

pub(super) fn address(address: Option<IpAddr>, to: &mut Vec<u8>) {
    match address {
        Some(IpAddr::V4(address)) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    put(to, b".");
                }
                put(to, itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        Some(address) => put(to, address.to_string().as_bytes()),
        None => put(to, b"unix"),
    }
}

/// A URL, less its query unless that is to be told.
fn of(url: &[u8], query: bool) -> &[u8] {
    let end = if query { None } else { url.iter().position(|&byte| byte == b'?') };
    end.and_then(|end| url.get(..end)).unwrap_or(url)
}

/// A value that a client sent, of which a record has the beginning.
fn sent(to: &mut Vec<u8>, before: &[u8], value: &[u8]) {
    text(to, before, value.get(..LONGEST_VALUE).unwrap_or(value));
    if value.len() > LONGEST_VALUE {
        put(to, CUT);
    }
}

/// A name that stands between blanks.
fn name(to: &mut Vec<u8>, before: &[u8], name: &str) {
    put(to, before);
    let mut parts = name.split(' ');
    text(to, b"", parts.next().unwrap_or_default().as_bytes());
    parts.for_each(|part| text(to, b"\\u0020", part.as_bytes()));
}

/// Bytes from the network: printable ASCII as it is, quotes and backslashes escaped, all else as `\u00XX`.
pub(super) fn text(to: &mut Vec<u8>, before: &[u8], bytes: &[u8]) {
    put(to, before);
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| !plain(byte)) {
        put(to, rest.get(..at).unwrap_or_default());
        match rest.get(at) {
            Some(byte @ (b'"' | b'\\')) => put(to, &[b'\\', *byte]),
            Some(byte) => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                put(to, &[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            None => {}
        }
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    put(to, rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (days, expected) in
            [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_780, (2026, 11, 23))]
        {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn a_long_value_is_cut_and_says_so() {
        for (length, expected) in [(LONGEST_VALUE, LONGEST_VALUE), (LONGEST_VALUE + 1, LONGEST_VALUE + CUT.len())] {
            let mut to = Vec::new();
            sent(&mut to, b"", &vec![b'a'; length]);
            assert_eq!((to.len(), to.ends_with(CUT)), (expected, length > LONGEST_VALUE));
        }
    }

    #[test]
    fn nothing_from_the_network_breaks_a_line() {
        let mut to = Vec::new();
        text(&mut to, b"", b"a\"b\\c\r\n\x1b[31m\xff");
        assert_eq!(String::from_utf8(to).unwrap(), r#"a\"b\\c\u000d\u000a\u001b[31m\u00ff"#);
    }
}
