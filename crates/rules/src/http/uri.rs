//! Canonical paths: what is matched is what is forwarded (safety.md R7).
//!
//! Escapes of unreserved characters are decoded, other escapes get upper-case digits, dot segments are resolved and runs of
//! slashes merged (RFC 3986 §6.2.2). What origins are known to read in different ways is refused: NUL, backslashes, overlong
//! UTF-8, and `..;` segments.

use crate::error::Kind;

/// Append the canonical form of `path`, which begins with `/`, to `to`.
///
/// # Errors
/// `BadUri`, with nothing to be relied on in `to` behind its old end.
pub fn canonical_path(path: &[u8], to: &mut Vec<u8>) -> Result<(), Kind> {
    if path.first() != Some(&b'/') {
        return Err(Kind::BadUri);
    }
    if is_canonical(path) {
        to.extend_from_slice(path);
        return Ok(());
    }
    let start = to.len();
    unescape(path, to)?;
    let resolved = resolve(to.get(start..).unwrap_or_default())?;
    to.truncate(start);
    to.extend_from_slice(&resolved);
    Ok(())
}

/// Whether all of `query` may stand behind the `?` of a target.
pub fn is_query(query: &[u8]) -> bool {
    query.iter().all(|&byte| CLASS[usize::from(byte)] != REFUSED)
}

const REFUSED: u8 = 0;
/// May stand in a path and keeps its meaning wherever it stands.
const PLAIN: u8 = 1;
/// May stand in a path or query, and needs a look: `%`, `.`, `/`, `;`, and `?`, which ends a path.
const LOOK: u8 = 2;

/// What each byte is in a path. Browsers send ``[ ] ^ ` { | }`` bare; they stay as they are.
const CLASS: [u8; 256] = {
    let mut class = [REFUSED; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        class[byte] = match byte as u8 {
            b'"' | b'#' | b'<' | b'>' | b'\\' => REFUSED,
            b'%' | b'.' | b'/' | b';' | b'?' => LOOK,
            _ => PLAIN,
        };
        byte += 1;
    }
    class
};

/// Whether `path` has nothing to decode, resolve or refuse. May say no to a canonical path, never yes to another.
fn is_canonical(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        match CLASS[usize::from(byte)] {
            PLAIN => {}
            LOOK if byte == b'.' && before != b'/' => {}
            LOOK if byte == b'/' && before != b'/' => {}
            _ => return false,
        }
        before = byte;
    }
    true
}

fn unescape(path: &[u8], to: &mut Vec<u8>) -> Result<(), Kind> {
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            if CLASS[usize::from(byte)] == REFUSED || byte == b'?' {
                return Err(Kind::BadUri);
            }
            to.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (rest.first().and_then(hex), rest.get(1).and_then(hex)) else {
            return Err(Kind::BadUri);
        };
        rest = rest.get(2..).unwrap_or_default();
        let next = match rest {
            [b'%', high, low, ..] => hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match high << 4 | low {
            // NUL ends strings, a backslash is a slash to some; the others begin overlong forms of ASCII (safety.md 131).
            0 | b'\\' | 0xc0 | 0xc1 | 0xf8.. => return Err(Kind::BadUri),
            0xe0 if matches!(next, Some(0x80..=0x9f)) => return Err(Kind::BadUri),
            0xf0 if matches!(next, Some(0x80..=0x8f)) => return Err(Kind::BadUri),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => to.push(byte),
            _ => to.extend_from_slice(&[b'%', HEX[usize::from(high)], HEX[usize::from(low)]]),
        }
    }
    Ok(())
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).map(|value| value as u8)
}

/// Dot segments and empty segments out (RFC 3986 §5.2.4); a path that climbs above its root is refused, not clipped.
fn resolve(path: &[u8]) -> Result<Vec<u8>, Kind> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                let parent = out.iter().rposition(|&byte| byte == b'/').ok_or(Kind::BadUri)?;
                out.truncate(parent);
            }
            segment if is_dots(segment) || climbs(segment) => return Err(Kind::BadUri),
            segment => {
                out.push(b'/');
                out.extend_from_slice(segment);
                continue;
            }
        }
        if last {
            out.push(b'/');
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(out)
}

/// Whether some reader takes the segment for `.` or `..`: `..;x` is a parent to servlet containers and a name to everybody
/// else, and so is `..%3Bx` where escapes are decoded first.
fn is_dots(segment: &[u8]) -> bool {
    let behind = segment.strip_prefix(b"..").or_else(|| segment.strip_prefix(b"."));
    matches!(behind, Some([] | [b';', ..] | [b'%', b'3', b'B', ..]))
}

/// Whether a reader that decodes `%2F` before it resolves dot segments would leave this segment downwards.
fn climbs(mut segment: &[u8]) -> bool {
    while let Some(at) = memchr::memmem::find(segment, b"%2F") {
        let (part, behind) = segment.split_at(at);
        let behind = behind.get(3..).unwrap_or_default();
        if is_dots(part) || is_dots(behind) {
            return true;
        }
        segment = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(path: &[u8]) -> Result<String, Kind> {
        let mut out = Vec::new();
        canonical_path(path, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn paths_become_canonical() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b.c", "/a/b.c"),
            ("//a///b//", "/a/b/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/.hidden/..x/...", "/.hidden/..x/..."),
            ("/%61dmin/%7euser", "/admin/~user"),
            ("/%2e%2e/a", "!"),
            ("/x/%2E%2e/a", "/a"),
            ("/a%2fb%c3%a9", "/a%2Fb%C3%A9"),
            ("/a%0d%0a", "/a%0D%0A"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/[x]|{y}^`", "/[x]|{y}^`"),
            ("/../a", "!"),
            ("/a/../../b", "!"),
            ("/x/..;/admin", "!"),
            ("/x/.;/admin", "!"),
            ("/x/%2e%2e;a/admin", "!"),
            ("/x/..%3b/admin", "!"),
            ("/x%2f.%3Ba", "!"),
            ("/x/...;/..a%3b", "/x/...;/..a%3B"),
            ("/a%00", "!"),
            ("/a%5c..", "!"),
            ("/a\\b", "!"),
            ("/%c0%ae", "!"),
            ("/%e0%80%af", "!"),
            ("/%f0%80%80%af", "!"),
            ("/%e2%82%ac", "/%E2%82%AC"),
            ("/x/..%2fadmin", "!"),
            ("/x%2f..%2fadmin", "!"),
            ("/x%2f..", "!"),
            ("/group%2f..project", "/group%2F..project"),
            ("/a%", "!"),
            ("/a%4", "!"),
            ("/a%zz", "!"),
            ("/a#b", "!"),
            ("/a?b", "!"),
            ("/a\"", "!"),
            ("/a\u{7f}", "!"),
            ("/é", "!"),
            ("a", "!"),
            ("", "!"),
        ] {
            assert_eq!(canonical(path.as_bytes()).unwrap_or_else(|_| "!".into()), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn canonical_paths_stay_as_they_are(path in "/([a.%/;]|%2[eEfF]|%61|%00){0,20}") {
            if let Ok(once) = canonical(path.as_bytes()) {
                prop_assert_eq!(canonical(once.as_bytes()), Ok(once.clone()));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(!once.contains("//"));
            }
        }

        #[test]
        fn any_bytes_get_a_verdict(path: Vec<u8>) {
            let _ = canonical(&path);
        }
    }
}
