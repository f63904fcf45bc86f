//! What an origin hears of the client: as much as the configuration says, which is nothing unless it says more, and of an anonymous
//! request only what it needs to be one.

use crate::http::{Known, RequestHead, Target, host};
use penstock_plan::Told;
use std::net::IpAddr;

/// What origins are told by a forward proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outward {
    /// What it is called in `Via`: no other proxy is called so, or a way through that one would look like a loop.
    pub pseudonym: String,
    /// Whether `Via` is written.
    pub via: bool,
    /// `X-Forwarded-For`.
    pub forwarded_for: Told,
    /// `Forwarded` (RFC 7239).
    pub forwarded: Told,
    /// Only what is on the list goes on.
    pub anonymous: bool,
}

/// The fields of an anonymous request that go on, in lower case: what content, caches, logins and upgrades need, and nothing by which
/// clients could be told apart.
const ALLOWED: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Fields by which a client, or a proxy before us, says whose request it is, beside those that are known as such and all of
/// `X-Forwarded-`, in lower case.
const TELLING: &[&str] =
    &["cf-connecting-ip", "client-ip", "fastly-client-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip"];
/// Sent in place of what an anonymous client calls itself.
const USER_AGENT: &str = "Mozilla/5.0";

impl Outward {
    /// Whether the request has been here before (RFC 9110 §7.6.3).
    pub fn has_seen(&self, head: &RequestHead) -> bool {
        let own = self.pseudonym.as_bytes();
        let mut received = head.fields.all_known(Known::Via).flat_map(|value| value.split(|&byte| byte == b','));
        received.any(|one| {
            let mut words = one.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(own))
        })
    }

    /// Leave in the head what the origin is to hear of this client.
    pub fn prepare(&self, head: &mut RequestHead, client: Option<IpAddr>) {
        let client = client.map(|client| client.to_canonical());
        let address = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
        // RFC 7239 §6: an address of IPv6 has brackets, and then quotes.
        let node = match client {
            Some(IpAddr::V6(client)) => format!("for=\"[{client}]\""),
            _ => format!("for={address}"),
        };
        let before = (joined(head, Known::XForwardedFor), joined(head, Known::Forwarded));
        head.fields.retain(|field| !field.known.is_identity() && !tells_whose(field.name));
        for (name, value) in [
            ("x-forwarded-for", told(self.forwarded_for, before.0, &address, "unknown")),
            ("forwarded", told(self.forwarded, before.1, &node, "for=unknown")),
        ] {
            if let Some(value) = value {
                head.fields.push(name, value);
            }
        }
        if self.anonymous {
            anonymise(head);
        }
    }
}

/// Whether a field that we do not know otherwise is there to say who the client is.
fn tells_whose(name: &[u8]) -> bool {
    let prefix = b"x-forwarded-";
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        || TELLING.iter().any(|telling| name.eq_ignore_ascii_case(telling.as_bytes()))
}

fn joined(head: &RequestHead, known: Known) -> Vec<u8> {
    head.fields.all_known(known).collect::<Vec<_>>().join(&b", "[..])
}

/// The value of a field, after what it was before.
fn told(mode: Told, before: Vec<u8>, own: &str, unknown: &str) -> Option<Vec<u8>> {
    let appended = |mut before: Vec<u8>, own: &str| {
        if !before.is_empty() {
            before.extend_from_slice(b", ");
        }
        before.extend_from_slice(own.as_bytes());
        before
    };
    match mode {
        Told::On => Some(appended(before, own)),
        Told::Off => Some(appended(before, unknown)),
        Told::Transparent => Some(before).filter(|before| !before.is_empty()),
        Told::Truncate => Some(own.as_bytes().to_vec()),
        Told::Delete => None,
    }
}

fn anonymise(head: &mut RequestHead) {
    let referrer = head.fields.known(Known::Referer).filter(|referrer| is_of_host(referrer, head)).map(<[u8]>::to_vec);
    head.fields.retain(|field| ALLOWED.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes())));
    head.fields.push("user-agent", USER_AGENT);
    if let Some(referrer) = referrer {
        head.fields.push("referer", referrer);
    }
}

/// Whether a referrer is of the host that is asked: no other learns where its visitor comes from.
fn is_of_host(referrer: &[u8], head: &RequestHead) -> bool {
    let secure = matches!(head.target, Target::Inside | Target::Secure);
    let (scheme, usual) = if secure { (&b"https://"[..], 443) } else { (&b"http://"[..], 80) };
    let Some(rest) = referrer.strip_prefix(scheme) else { return false };
    let authority = rest.split(|byte| b"/?#".contains(byte)).next().unwrap_or_default();
    let mut name = [0; host::LONGEST];
    host::canonical(authority, &mut name).is_ok_and(|(length, port)| {
        name.get(..length) == Some(head.host().as_bytes()) && port.unwrap_or(usual) == head.place_port()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    fn outward(forwarded_for: Told, forwarded: Told, anonymous: bool) -> Outward {
        Outward { pseudonym: "penstock-1".into(), via: true, forwarded_for, forwarded, anonymous }
    }

    fn head(fields: &str) -> RequestHead {
        let mut head = RequestHead::default();
        let limits = HeadLimits { bytes: 4096, fields: 100, uri: 1000, elsewhere: true };
        head.parse(format!("GET http://a.example/ HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes(), &limits).unwrap();
        head
    }

    fn lines(head: &RequestHead) -> Vec<String> {
        let line = |name: &[u8], value: &[u8]| format!("{}: {}", name.escape_ascii(), value.escape_ascii());
        let fields = head.fields.iter().map(|field| line(field.name, field.value).to_lowercase());
        fields.filter(|line| line != "host: a").collect()
    }

    #[test]
    fn modes_say_what_squid_says_by_them() {
        let said = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-A: 1\r\n\
                    X-Forwarded-Server: a\r\nX-Forwarded: 1\r\nTRUE-Client-IP: 6.6.6.6\r\n";
        for (mode, for_, forwarded) in [
            (Told::On, Some("6.6.6.6, 192.0.2.1"), Some("for=6.6.6.6, for=192.0.2.1")),
            (Told::Off, Some("6.6.6.6, unknown"), Some("for=6.6.6.6, for=unknown")),
            (Told::Transparent, Some("6.6.6.6"), Some("for=6.6.6.6")),
            (Told::Truncate, Some("192.0.2.1"), Some("for=192.0.2.1")),
            (Told::Delete, None, None),
        ] {
            let mut head = head(said);
            outward(mode, mode, false).prepare(&mut head, Some([192, 0, 2, 1].into()));
            let expected = [
                Some("x-a: 1".to_owned()),
                Some("x-forwarded: 1".to_owned()),
                for_.map(|value| format!("x-forwarded-for: {value}")),
                forwarded.map(|value| format!("forwarded: {value}")),
            ];
            assert_eq!(lines(&head), expected.into_iter().flatten().collect::<Vec<_>>(), "{mode:?}");
        }
        let mut six = head("");
        outward(Told::On, Told::On, false).prepare(&mut six, Some("2001:db8::1".parse().unwrap()));
        let expected = ["x-forwarded-for: 2001:db8::1".to_owned(), r#"forwarded: for=\"[2001:db8::1]\""#.to_owned()];
        assert_eq!(lines(&six), expected);
        let mut nobody = head("");
        outward(Told::Transparent, Told::Transparent, false).prepare(&mut nobody, None);
        assert_eq!(lines(&nobody), [""; 0]);
    }

    #[test]
    fn an_anonymous_request_has_only_what_it_needs() {
        let mut told = head(
            "User-Agent: Special/7 (me)\r\nReferer: http://b.example/secret\r\nX-Client-Id: 7\r\nDNT: 1\r\n\
             Accept: */*\r\nCookie: a=b\r\nFrom: me@example\r\nSec-CH-UA: x\r\nX-Forwarded-For: 6.6.6.6\r\n",
        );
        outward(Told::Delete, Told::Delete, true).prepare(&mut told, Some([192, 0, 2, 1].into()));
        assert_eq!(lines(&told), ["accept: */*", "cookie: a=b", "user-agent: mozilla/5.0"]);
        for (referrer, kept) in [
            ("http://a.example/x", true),
            ("http://A.example:80/x", true),
            ("http://a.example:81/x", false),
            ("https://a.example/x", false),
            ("http://a.example@b.example/x", false),
            ("http://a.example.b.example/", false),
        ] {
            let mut head = head(&format!("Referer: {referrer}\r\n"));
            outward(Told::Delete, Told::Delete, true).prepare(&mut head, None);
            assert_eq!(head.fields.known(Known::Referer).is_some(), kept, "{referrer}");
        }
        for (referrer, kept) in
            [("https://a/x", true), ("https://a:443", true), ("https://b/x", false), ("http://a/x", false)]
        {
            let mut head = RequestHead::default();
            let limits = HeadLimits { bytes: 4096, fields: 100, uri: 1000, elsewhere: true };
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\nReferer: {referrer}\r\n\r\n");
            head.parse(text.as_bytes(), &limits).unwrap();
            head.enter("a", 443).unwrap();
            outward(Told::Delete, Told::Delete, true).prepare(&mut head, None);
            assert_eq!(head.fields.known(Known::Referer).is_some(), kept, "{referrer}");
        }
    }

    #[test]
    fn its_own_word_is_known_again() {
        for (via, seen) in [
            ("1.1 penstock-1", true),
            ("1.0 a, 1.1  PENSTOCK-1 (x)", true),
            ("1.1 penstock-12", false),
            ("penstock-1", false),
        ] {
            let outward = outward(Told::Delete, Told::Delete, false);
            assert_eq!(outward.has_seen(&head(&format!("Via: {via}\r\n"))), seen, "{via}");
        }
    }
}
