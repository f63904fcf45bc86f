//! Affinity: clients that are sent to the same endpoint again. By [table], or by cookie: a client that was sent to an endpoint is sent there again.
//!
//! The cookie's value is a MAC over the upstream's name and the endpoint's address. It tells nothing of either, and who does not
//! have the secret cannot make one: what is not the value of an endpoint is as good as no cookie.

pub mod table;

use crate::http::{Fields, Known};
use ahash::AHashMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write;

/// The cookie of one upstream, with the value of each endpoint.
#[derive(Debug)]
pub struct CookieAffinity {
    name: Box<str>,
    values: Box<[Box<str>]>,
    // Clients choose what is looked up: the hash is seeded, and a value that is nearly right takes as long as any other.
    endpoints: AHashMap<Box<[u8]>, usize>,
}

/// Bytes of the MAC that are used: 128 bits.
const USED: usize = 16;

impl CookieAffinity {
    /// For the endpoints of `upstream` with these addresses, in order.
    pub fn build<'a>(
        name: &str,
        secret: &[u8],
        upstream: &str,
        addresses: impl Iterator<Item = &'a str>,
    ) -> CookieAffinity {
        let values: Box<[Box<str>]> = addresses.map(|address| value(secret, upstream, address)).collect();
        let endpoints = values.iter().enumerate().map(|(at, value)| (Box::from(value.as_bytes()), at)).collect();
        CookieAffinity { name: name.into(), values, endpoints }
    }

    /// Index of the endpoint that the client is bound to. The cookie is taken out of the request: it says nothing to an endpoint.
    pub fn take(&self, fields: &mut Fields) -> Option<usize> {
        let mut found = None;
        let mut mine = false;
        for value in fields.all_known(Known::Cookie).flat_map(pairs).filter_map(|pair| self.value_of(pair)) {
            mine = true;
            found = found.or_else(|| self.endpoints.get(value).copied());
        }
        if mine {
            self.strip(fields);
        }
        found
    }

    /// The `Set-Cookie` that binds a client to an endpoint.
    pub fn set_cookie(&self, endpoint: usize, secure: bool) -> Option<String> {
        let value = self.values.get(endpoint)?;
        let secure = if secure { "; Secure" } else { "" };
        Some(format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}", self.name))
    }

    fn value_of<'v>(&self, pair: &'v [u8]) -> Option<&'v [u8]> {
        pair.strip_prefix(self.name.as_bytes())?.strip_prefix(b"=")
    }

    fn strip(&self, fields: &mut Fields) {
        let lines = fields.all_known(Known::Cookie).map(|line| {
            let others: Vec<_> = pairs(line).filter(|pair| !pair.is_empty() && self.value_of(pair).is_none()).collect();
            others.join(&b"; "[..])
        });
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        fields.remove("cookie");
        lines.iter().for_each(|line| fields.push("cookie", line));
    }
}

/// The pairs of one `Cookie` line (RFC 6265 §4.2.1).
fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

/// HMAC-SHA256 over what it stands for, the first 128 bits in hexadecimal.
fn value(secret: &[u8], upstream: &str, address: &str) -> Box<str> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return Box::default() };
    // No name holds a zero byte, so the three cannot run into each other.
    for part in ["penstock affinity", upstream, address] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    let mut text = String::with_capacity(2 * USED);
    for byte in mac.finalize().into_bytes().iter().take(USED) {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affinity(secret: &[u8], upstream: &str) -> CookieAffinity {
        CookieAffinity::build("lb", secret, upstream, ["10.0.0.1:1", "10.0.0.2:1"].into_iter())
    }

    fn take(affinity: &CookieAffinity, lines: &[&str]) -> (Option<usize>, Vec<String>) {
        let mut fields = Fields::default();
        lines.iter().for_each(|line| fields.push("cookie", line));
        let found = affinity.take(&mut fields);
        (found, fields.all("cookie").map(|line| String::from_utf8(line.to_vec()).unwrap()).collect())
    }

    #[test]
    fn a_client_is_bound_by_the_value_it_was_given() {
        let affinity = affinity(b"secret", "shop");
        let given = affinity.set_cookie(1, false).unwrap();
        let (pair, attributes) = given.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
        assert!(affinity.set_cookie(0, true).unwrap().ends_with("; Secure"));
        assert_eq!(affinity.set_cookie(2, false), None);
        assert_eq!(take(&affinity, &[pair]), (Some(1), vec![]));
        let line = format!("a=1;{pair} ; lbx=2");
        assert_eq!(take(&affinity, &[&line, "c=3"]), (Some(1), vec!["a=1; lbx=2".into(), "c=3".into()]));
        assert_eq!(take(&affinity, &["lb=forged", pair]), (Some(1), vec![]));
    }

    #[test]
    fn what_was_not_given_is_as_good_as_nothing() {
        let mine = affinity(b"secret", "shop");
        let pair = |affinity: &CookieAffinity| format!("lb={}", affinity.values[0]);
        let tampered = pair(&mine).replace(|digit: char| digit.is_ascii_digit(), "a");
        for cookie in [pair(&affinity(b"other", "shop")), pair(&affinity(b"secret", "media")), tampered, "lb=".into()] {
            assert_eq!(take(&mine, &[&format!("a=1; {cookie}")]), (None, vec!["a=1".into()]), "{cookie}");
        }
        assert_eq!(take(&mine, &["LB=1; lb", "a=b;; c"]), (None, vec!["LB=1; lb".into(), "a=b;; c".into()]));
    }

    /// What one machine gives, another with the same secret takes, whatever the order of its list.
    #[test]
    fn values_are_the_same_on_every_machine() {
        assert_eq!(&*value(b"0123456789abcdef", "shop", "10.0.0.1:1"), "e5a15c160bb4180ae0f393ff85a5ed5d");
    }
}
