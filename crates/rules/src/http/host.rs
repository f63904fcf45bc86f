//! Canonical host names (RFC 9110 §7.2): lower case, no trailing dot, port apart.

use crate::error::Kind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str;

/// Longest host that is understood: a DNS name has at most 253 characters.
pub const LONGEST: usize = 255;

/// Write the canonical host of `value` (a `Host` field or an authority) to `to`; its length and the port, if one is named.
///
/// # Errors
/// `BadHost`.
pub fn canonical(value: &[u8], to: &mut [u8; LONGEST]) -> Result<(usize, Option<u16>), Kind> {
    let (name, port) = split_port(value)?;
    if let Some(inside) = name.strip_prefix(b"[") {
        let address = inside.strip_suffix(b"]").and_then(|address| str::from_utf8(address).ok());
        let address: Ipv6Addr = address.and_then(|address| address.parse().ok()).ok_or(Kind::BadHost)?;
        let text = format!("[{address}]");
        to.get_mut(..text.len()).ok_or(Kind::BadHost)?.copy_from_slice(text.as_bytes());
        return Ok((text.len(), port));
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    let room = to.get_mut(..name.len()).ok_or(Kind::BadHost)?;
    // An empty label is in no name that resolves; with one at the end, `a..` would be another host than its own form `a.`.
    let (mut before, mut wrong) = (b'.', false);
    for (to, &byte) in room.iter_mut().zip(name) {
        *to = CANONICAL[usize::from(byte)];
        wrong |= *to == 0 || (byte == b'.' && before == b'.');
        before = byte;
    }
    if wrong || before == b'.' { Err(Kind::BadHost) } else { Ok((name.len(), port)) }
}

/// The address that a canonical name is, if it ends in a number: decimal, octal or hexadecimal, of one to four parts (WHATWG URL §3.5).
///
/// # Errors
/// `BadHost` for a name that ends so and is no address.
pub fn number(name: &[u8]) -> Result<Option<Ipv4Addr>, Kind> {
    let last = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    if !last.iter().all(u8::is_ascii_digit) && part(last).is_none() {
        return Ok(None);
    }
    let parts: Option<Vec<u64>> = name.split(|&byte| byte == b'.').map(part).collect();
    let Some([front @ .., last]) = parts.as_deref() else { return Err(Kind::BadHost) };
    // The last part fills what the others leave.
    let room = 4usize.checked_sub(front.len()).filter(|room| *room > 0).ok_or(Kind::BadHost)?;
    if front.iter().any(|part| *part > 255) || *last >= 1 << (8 * room) {
        return Err(Kind::BadHost);
    }
    let front = front.iter().zip([24, 16, 8]).fold(0, |sum, (part, shift)| sum | part << shift);
    u32::try_from(front | last).map(|bits| Some(Ipv4Addr::from_bits(bits))).map_err(|_| Kind::BadHost)
}

fn part(text: &[u8]) -> Option<u64> {
    let (digits, base) = match text {
        [b'0', b'x', digits @ ..] => (digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => (digits, 8),
        digits if !digits.is_empty() => (digits, 10),
        _ => return None,
    };
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    // "0x" alone is zero.
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(str::from_utf8(digits).ok()?, base).ok() }
}

/// What becomes of each byte of a name; 0: the rest of RFC 3986's reg-name is in no host that resolves, and read differently by
/// different origins.
const CANONICAL: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let one = byte as u8;
        if one.is_ascii_alphanumeric() || matches!(one, b'-' | b'.' | b'_' | b'~') {
            table[byte] = one.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

fn split_port(value: &[u8]) -> Result<(&[u8], Option<u16>), Kind> {
    let colon = match value.last() {
        Some(b']') => None,
        _ => value.iter().rposition(|&byte| byte == b':'),
    };
    let Some((name, [_, port @ ..])) = colon.and_then(|colon| value.split_at_checked(colon)) else {
        return Ok((value, None));
    };
    if port.len() > 5 {
        return Err(Kind::BadHost);
    }
    let (mut number, mut wrong) = (0u32, false);
    for byte in port {
        let digit = byte.wrapping_sub(b'0');
        wrong |= digit > 9;
        number = number.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    match u16::try_from(number) {
        Ok(number) if number > 0 && !wrong => Ok((name, Some(number))),
        _ => Err(Kind::BadHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_become_canonical() {
        for (value, expected) in [
            ("example.com", Some(("example.com", None))),
            ("EXAMPLE.com.", Some(("example.com", None))),
            ("Example.com:8080", Some(("example.com", Some(8080)))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some(80)))),
            ("[::1]", Some(("[::1]", None))),
            ("[0:0::1]:443", Some(("[::1]", Some(443)))),
            ("", None),
            (".", None),
            ("a..", None),
            ("a..b", None),
            (".a", None),
            ("a:", None),
            ("a:0", None),
            ("a:99999", None),
            ("a:x", None),
            (":80", None),
            ("a, b", None),
            ("a/x", None),
            ("u@a", None),
            ("a b", None),
            ("a#f", None),
            ("[::1", None),
            ("[x]", None),
            ("::1", None),
            ("a\0.b", None),
            ("%61", None),
        ] {
            let mut to = [0; LONGEST];
            let got = canonical(value.as_bytes(), &mut to).ok();
            let got = got.map(|(length, port)| (str::from_utf8(&to[..length]).unwrap().to_owned(), port));
            assert_eq!(got, expected.map(|(host, port)| (host.to_owned(), port)), "{value}");
        }
        assert!(canonical(&[b'a'; 256], &mut [0; LONGEST]).is_err());
    }
}
