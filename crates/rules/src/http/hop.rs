//! Fields that are for one hop only (RFC 9110 §7.6.1), and what they say.

use super::{Field, Fields, Known, RequestHead, Version};
use crate::error::Kind;

const MAX_FORWARDS: &str = "max-forwards";

/// What a head says about its own connection, read once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The sender keeps the connection open behind this message.
    pub keep_alive: bool,
    /// `Connection: close`.
    pub close: bool,
    /// `Connection: upgrade` with a protocol to upgrade to that may pass.
    pub upgrade: bool,
    /// `Expect: 100-continue`.
    pub expect_continue: bool,
    /// `TE: trailers`.
    pub te_trailers: bool,
    /// The connection itself is authenticated (NTLM, Negotiate): it can carry nobody else's requests (safety.md 71).
    pub authenticates: bool,
    /// Ranges that `Range` asks for.
    pub ranges: u16,
    /// `Connection` names further fields; [`is_listed`] tells which.
    pub listed: bool,
}

impl Options {
    /// What a request says.
    ///
    /// # Errors
    /// `BadConnection` where `Connection` names a field that frames or routes the message (safety.md R6), `BadExpect`.
    pub fn of_request(version: Version, fields: &Fields) -> Result<Options, Kind> {
        let mut options = Options { keep_alive: version != Version::Http10, ..Options::default() };
        let (mut upgrade, mut protocols, mut h2c, mut expects) = (false, 0, false, 0);
        if !fields.may_have(&[
            Known::Connection,
            Known::Upgrade,
            Known::Te,
            Known::Authorization,
            Known::Range,
            Known::Expect,
        ]) {
            return Ok(options);
        }
        for (known, value) in fields.all_of_known() {
            match known {
                Known::Connection => upgrade |= options.read_connection(value, true)?,
                // RFC 7540's upgrade from HTTP/1.1 is gone (RFC 9113 §3.1) and was a way past proxies: never offered on.
                Known::Upgrade => {
                    protocols += 1;
                    h2c |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"h2c"));
                }
                Known::Te => options.te_trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers")),
                Known::Authorization => options.authenticates |= is_of_connection(value),
                Known::Range => {
                    let more = memchr::memchr_iter(b',', value).count() + 1;
                    options.ranges = options.ranges.saturating_add(u16::try_from(more).unwrap_or(u16::MAX));
                }
                Known::Expect => {
                    expects += 1;
                    options.expect_continue = value.eq_ignore_ascii_case(b"100-continue");
                    if expects > 1 || !options.expect_continue {
                        return Err(Kind::BadExpect);
                    }
                }
                _ => {}
            }
        }
        options.upgrade = upgrade && protocols == 1 && !h2c && version == Version::Http11;
        // RFC 9110 §10.1.1: a 1.0 client cannot be told to go on.
        options.expect_continue &= version != Version::Http10;
        Ok(options)
    }

    /// What a response says.
    pub fn of_response(version: Version, fields: &Fields) -> Options {
        let mut options = Options { keep_alive: version == Version::Http11, ..Options::default() };
        let (mut upgrade, mut protocol) = (false, false);
        if !fields.may_have(&[Known::Connection, Known::Upgrade, Known::WwwAuthenticate]) {
            return options;
        }
        for (known, value) in fields.all_of_known() {
            match known {
                Known::Connection => upgrade |= options.read_connection(value, false).unwrap_or(false),
                Known::Upgrade => protocol = true,
                Known::WwwAuthenticate => options.authenticates |= is_of_connection(value),
                _ => {}
            }
        }
        options.upgrade = upgrade && protocol;
        options
    }

    /// Read one `Connection` value; whether it says `upgrade`.
    fn read_connection(&mut self, value: &[u8], strict: bool) -> Result<bool, Kind> {
        let mut upgrade = false;
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                upgrade = true;
            } else {
                match Known::of(token) {
                    Known::ContentLength | Known::TransferEncoding | Known::Host if strict => {
                        return Err(Kind::BadConnection);
                    }
                    // Dropped in any case.
                    Known::Te | Known::KeepAlive | Known::Http2Settings | Known::ProxyConnection => {}
                    _ => self.listed = true,
                }
            }
        }
        // `close` wins, wherever it stands.
        self.keep_alive &= !self.close;
        Ok(upgrade)
    }
}

/// Take one hop off `Max-Forwards` of an `OPTIONS`; false where none is left, and whoever has the request answers it (RFC 9110 §7.6.2).
/// (`TRACE`, the other method that has it, goes nowhere.) What is no number is passed on as it is: it is the receiver's to judge.
pub fn take_hop(head: &mut RequestHead) -> bool {
    if head.method_bytes() != b"OPTIONS" {
        return true;
    }
    match hops(&head.fields) {
        Some(0) => false,
        Some(hops) => {
            head.fields.set(MAX_FORWARDS, (hops - 1).to_string());
            true
        }
        None => true,
    }
}

/// The number of hops that `Max-Forwards` leaves, if it is one.
fn hops(fields: &Fields) -> Option<u64> {
    let mut values = fields.all(MAX_FORWARDS);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Whether credentials or a challenge are of a scheme that authenticates a connection and not a request (RFC 4559 §6).
fn is_of_connection(value: &[u8]) -> bool {
    tokens(value).any(|token| {
        let scheme = token.split(|&byte| byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"negotiate") || scheme.eq_ignore_ascii_case(b"ntlm")
    })
}

/// Whether the field stays behind on this hop, whatever `Connection` says.
pub(super) fn is_hop_by_hop(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthorization
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
    )
}

/// Drop the fields that `Connection` names. Those for one hop stay: they are left out when the head is written, and read before.
pub(super) fn strip_listed(fields: &mut Fields) {
    let listed = |field: &Field<'_>| !is_hop_by_hop(field.known) && is_listed(fields, field.name, field.known);
    let mut dropped: Vec<bool> = fields.iter().map(|field| listed(&field)).collect();
    dropped.reverse();
    fields.retain(|_| !dropped.pop().unwrap_or_default());
}

/// Whether `Connection` names this field, and may: what identifies, authenticates or routes cannot be stripped on a client's
/// word (safety.md R6, 135).
fn is_listed(fields: &Fields, name: &[u8], known: Known) -> bool {
    let routes =
        matches!(known, Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Cookie | Known::Via);
    let protected = routes || known.is_identity() || known == Known::Authorization;
    !protected
        && fields.all_known(Known::Connection).any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case(name)))
}

/// Members of a comma-separated list, empty ones left out (RFC 9110 §5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(super::request::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_options_goes_as_far_as_it_says() {
        let after = |method: &str, values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("Max-Forwards".to_owned(), (*value).to_owned())).collect();
            let mut head = RequestHead::compose(method, "/x", "a", &fields).unwrap();
            let goes_on = take_hop(&mut head);
            let left: Vec<_> =
                head.fields.all(MAX_FORWARDS).map(|left| str::from_utf8(left).unwrap().to_owned()).collect();
            (goes_on, left.join("|"))
        };
        for (method, values, goes_on, left) in [
            ("OPTIONS", &["1"][..], true, "0"),
            ("OPTIONS", &["0"], false, "0"),
            ("OPTIONS", &["000"], false, "000"),
            ("OPTIONS", &["010"], true, "9"),
            ("OPTIONS", &[], true, ""),
            ("OPTIONS", &["x"], true, "x"),
            ("OPTIONS", &["+0"], true, "+0"),
            ("OPTIONS", &["0", "0"], true, "0|0"),
            ("OPTIONS", &["99999999999999999999"], true, "99999999999999999999"),
            ("GET", &["0"], true, "0"),
        ] {
            assert_eq!(after(method, values), (goes_on, left.to_owned()), "{method} {values:?}");
        }
    }

    fn options(version: Version, fields: &[(&str, &str)]) -> Result<Options, Kind> {
        let mut all = Fields::default();
        fields.iter().for_each(|(name, value)| all.push(name, value));
        Options::of_request(version, &all)
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        for (version, value, expected) in [
            (Version::Http11, "", true),
            (Version::Http11, "close", false),
            (Version::Http11, "keep-alive, close", false),
            (Version::Http11, "close, keep-alive", false),
            (Version::Http10, "", false),
            (Version::Http10, "Keep-Alive", true),
            (Version::Http10, "keep-alive, close", false),
        ] {
            let options = options(version, &[("connection", value)]).unwrap();
            assert_eq!(options.keep_alive, expected, "{version:?} {value}");
        }
    }

    #[test]
    fn what_frames_cannot_be_listed_and_what_identifies_is_not_stripped() {
        for name in ["Transfer-Encoding", "content-length", "Host"] {
            assert_eq!(options(Version::Http11, &[("connection", name)]), Err(Kind::BadConnection));
        }
        let mut fields = Fields::default();
        fields.push("connection", "x-secret, Authorization, cookie");
        assert!(is_listed(&fields, b"X-Secret", Known::Other));
        assert!(!is_listed(&fields, b"authorization", Known::Authorization));
        assert!(!is_listed(&fields, b"cookie", Known::Cookie));
    }

    #[test]
    fn who_authenticates_a_connection_says_so() {
        for (value, expected) in [
            ("NTLM TlRMTVNTUAAB", true),
            ("negotiate", true),
            ("Basic realm=\"a\", NTLM", true),
            ("Basic bnRsbQ==", false),
            ("Bearer ntlm", false),
        ] {
            let asked = options(Version::Http11, &[("authorization", value)]).map(|options| options.authenticates);
            let mut answer = Fields::default();
            answer.push("www-authenticate", value);
            let answered = Options::of_response(Version::Http11, &answer).authenticates;
            assert_eq!((asked, answered), (Ok(expected), expected), "{value}");
        }
        let ranges = |fields: &[(&str, &str)]| options(Version::Http11, fields).map(|options| options.ranges);
        assert_eq!(ranges(&[]), Ok(0));
        assert_eq!(ranges(&[("range", "bytes=0-,1-2"), ("range", "bytes=3-")]), Ok(3));
    }

    #[test]
    fn only_what_may_pass_is_an_upgrade() {
        let upgrade = |protocol| {
            options(Version::Http11, &[("connection", "Upgrade"), ("upgrade", protocol)]).map(|options| options.upgrade)
        };
        assert_eq!(upgrade("websocket"), Ok(true));
        assert_eq!(upgrade("h2c"), Ok(false));
        assert_eq!(options(Version::Http11, &[("upgrade", "websocket")]).map(|options| options.upgrade), Ok(false));
        for value in ["y 100-continue", "100-continue, x", ""] {
            assert_eq!(options(Version::Http11, &[("expect", value)]), Err(Kind::BadExpect), "{value}");
        }
    }
}
