//! What every head that we write must be, whatever it was made from.

use penstock_rules::http::{Fields, Known};

/// Fields that are for one hop only (RFC 9110 §7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What fields say to the next hop, other than how long the body is and what `but` names. What we add ourselves is left out.
pub(crate) fn end_to_end(fields: &Fields, but: &[Known]) -> Vec<(String, String)> {
    fields
        .iter()
        .filter(|field| field.known != Known::ContentLength && !but.contains(&field.known))
        .filter(|field| field.known != Known::Via || !field.value.ends_with(b" penstock"))
        .map(|field| (shown(field.name), shown(field.value)))
        .filter(|(name, _)| !HOP_BY_HOP.contains(&&*name.to_ascii_lowercase()))
        .collect()
}

/// A written head, read by the plainest reader there is.
pub(crate) struct Written<'a> {
    pub(crate) start: &'a [u8],
    /// Names in lower case.
    pub(crate) fields: Vec<(String, &'a [u8])>,
}

/// Read `head` line by line; panics where lines, names or values are not those of RFC 9112 §5.
pub(crate) fn read(head: &[u8]) -> Written<'_> {
    let body = head.strip_suffix(b"\r\n\r\n").expect("a head ends with a blank line");
    let mut lines = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    for line in &lines {
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a bare CR, LF or NUL: {}", shown(head));
    }
    let fields = lines[1..].iter().map(|line| {
        let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
        let name = str::from_utf8(&line[..colon]).expect("a name is ASCII").to_ascii_lowercase();
        assert!(!name.is_empty() && name.bytes().all(is_token), "a name that is none: {}", shown(head));
        (name, line[colon + 1..].trim_ascii())
    });
    let fields = fields.collect();
    Written { start: lines[0], fields }
}

impl Written<'_> {
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect()
    }

    /// How the body ends, as far as fields say: exactly one rule, or none.
    pub(crate) fn length(&self) -> (Option<u64>, bool) {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1, "more than one rule for the length of a body");
        let bytes = lengths.first().map(|value| {
            let text = str::from_utf8(value).expect("a length is ASCII");
            assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "a length that is no number: {text:?}");
            text.parse().expect("a length fits in 64 bits")
        });
        assert!(codings.iter().all(|value| *value == b"chunked"), "a coding other than chunked");
        (bytes, !codings.is_empty())
    }

    /// No field for one hop but `ours`, and none that `Connection` named.
    pub(crate) fn is_for_the_next_hop(&self, ours: &[&str]) {
        for (name, _) in &self.fields {
            let kept = !HOP_BY_HOP.contains(&name.as_str()) || ours.contains(&name.as_str());
            assert!(kept, "the hop-by-hop field {name} was passed on");
        }
        let connection = self.all("connection");
        assert!(connection.len() <= 1, "more than one Connection");
        for value in connection {
            let listed = value.to_ascii_lowercase();
            assert!(
                ours.iter().any(|name| name.as_bytes() == listed) || listed == b"close" || listed == b"keep-alive",
                "a Connection of the peer's was passed on"
            );
        }
    }
}

pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
