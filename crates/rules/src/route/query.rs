//! Parameters of a raw query string (`application/x-www-form-urlencoded`, URL standard §5.1).

use std::borrow::Cow;

/// Pieces between `&`, as written; empty ones too.
pub(crate) fn pieces(query: &str) -> impl Iterator<Item = &str> {
    query.split('&')
}

/// Raw name and value of a piece; no `=` means an empty value.
pub(crate) fn split(piece: &str) -> (&str, &str) {
    piece.split_once('=').unwrap_or((piece, ""))
}

/// Whether the piece's name, once decoded, is `name`.
pub(crate) fn is_named(piece: &str, name: &str) -> bool {
    // A piece of nothing is no parameter of an empty name: `a=1&&b=2` has two.
    !piece.is_empty() && *decode(split(piece).0) == *name.as_bytes()
}

/// The first value of `name`, decoded.
pub(crate) fn first<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    pieces(query).find(|piece| is_named(piece, name)).map(|piece| decode(split(piece).1))
}

/// Escapes decoded, `+` read as a space; an escape that is none stays as it is.
pub(crate) fn decode(raw: &str) -> Cow<'_, [u8]> {
    let raw = raw.as_bytes();
    if !raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _, _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    Cow::Owned(out)
}

/// Append `text` with everything escaped but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.push(char::from(byte)),
            _ => to.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_parameter_of_a_name_is_decoded() {
        for (query, name, expected) in [
            ("a=1&b=2&a=3", "a", Some("1")),
            ("a=1&b", "b", Some("")),
            ("a%20b=x+y%2B", "a b", Some("x y+")),
            ("a=%zz%4", "a", Some("%zz%4")),
            ("a=b=c", "a", Some("b=c")),
            ("a=1&&b=2", "", None),
            ("=1", "", Some("1")),
            ("A=1", "a", None),
            ("", "", None),
        ] {
            let got = first(query, name).map(|value| String::from_utf8(value.into_owned()).unwrap());
            assert_eq!(got.as_deref(), expected, "{query} {name}");
        }
        assert!(matches!(first("a=1", "a"), Some(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(text: String) {
            let mut encoded = String::new();
            encode(&text, &mut encoded);
            prop_assert_eq!(&*decode(&encoded), text.as_bytes());
            prop_assert!(crate::http::uri::is_query(encoded.as_bytes()));
        }
    }
}
