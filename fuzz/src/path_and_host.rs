//! Paths and hosts: the canonical form is its own, and no reader finds in it what we did not.

use crate::written::shown;
use penstock_rules::http::host;
use penstock_rules::http::uri::{canonical_path, is_query};

/// Check one input: a path, a line end, and a host.
pub fn check(bytes: &[u8]) {
    let at = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (path, host) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    check_path(path);
    check_host(host);
    assert_eq!(is_query(path), path.iter().all(|byte| (0x21..0x7f).contains(byte) && !b"\"#<>\\".contains(byte)));
}

fn check_path(path: &[u8]) {
    let mut out = b"before".to_vec();
    if canonical_path(path, &mut out).is_err() {
        return;
    }
    let once = out.strip_prefix(b"before").expect("what stood there before stays").to_vec();
    let text = str::from_utf8(&once).unwrap_or_else(|_| panic!("not ASCII: {}", shown(path)));
    check_canonical(text);
    let mut twice = Vec::new();
    canonical_path(&once, &mut twice).unwrap_or_else(|_| panic!("its own form is refused: {text}"));
    assert_eq!(str::from_utf8(&twice), Ok(text), "no fixed point of {}", shown(path));
}

/// What every path is that router, filters and endpoint see.
pub(crate) fn check_canonical(path: &str) {
    assert!(path.starts_with('/'), "{path}");
    assert!(path.bytes().all(|byte| (0x21..0x7f).contains(&byte) && !b"\"#<>\\?".contains(&byte)), "{path}");
    assert!(!path.contains("//"), "an empty segment: {path}");
    let decoded = decode(path.as_bytes());
    assert!(!decoded.contains(&0) && !decoded.contains(&b'\\'), "NUL or a backslash: {path}");
    // Whether a reader decodes before it resolves dot segments or not, it finds none; nor with parameters cut off.
    for text in [path.as_bytes(), &decoded] {
        for segment in text.split(|&byte| byte == b'/') {
            let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
            assert!(name != b"." && name != b"..", "a dot segment: {path}");
        }
    }
    let escapes = path.split('%').skip(1).map(|rest| rest.get(..2).expect("an escape has two digits"));
    for digits in escapes {
        assert!(digits.bytes().all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit)), "{path}");
        let byte = u8::from_str_radix(digits, 16).expect("two digits");
        assert!(!byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte), "a needless escape: {path}");
    }
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                rest = &behind[2..];
            }
            None => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    out
}

fn check_host(value: &[u8]) {
    let mut out = [0; host::LONGEST];
    let Ok((length, port)) = host::canonical(value, &mut out) else { return };
    let name = str::from_utf8(&out[..length]).unwrap_or_else(|_| panic!("not ASCII: {}", shown(value))).to_owned();
    assert!(!name.is_empty() && !name.ends_with('.') && !name.starts_with('.'), "{name}");
    assert!(!name.contains(".."), "an empty label: {name}");
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{name}");
    assert!(!name.bytes().any(|byte| b",/@#?\\%\"<>".contains(&byte)), "{name}");
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    assert!(bare.len() < name.len() || !name.contains(':'), "a colon outside of brackets: {name}");
    assert_ne!(port, Some(0));
    for (again, expected) in [(name.clone(), None), (format!("{name}:8080"), Some(8080)), (name.to_uppercase(), None)] {
        let found = host::canonical(again.as_bytes(), &mut out).map(|(length, port)| (out[..length].to_vec(), port));
        assert_eq!(found.ok(), Some((name.clone().into_bytes(), expected)), "no fixed point of {}", shown(value));
    }
}
