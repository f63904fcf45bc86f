//! Who a client is by its certificate, written so that a field of a head and an expression can hold it: printable ASCII, in which
//! nothing that the certificate says can be taken for something else. That the certificate is believed was decided before.

use super::certificate::{
    ADDRESS, BOOLEAN, DNS_NAME, Der, EXTENSIONS, Malformed, OBJECT, OCTETS, SEQUENCE, SUBJECT_ALT_NAME, address,
    from_validity,
};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// A longer subject, or more names, would fill a head.
const LONGEST: usize = 4096;
const SET: u8 = 0x31;
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;
/// Strings that are ASCII or UTF-8 as they stand: UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// Kinds of attributes by their object identifier (RFC 4514 §3, RFC 4519), and what people write besides.
const KINDS: [(&[u8], &str); 11] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x05], "serialNumber"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "emailAddress"),
];

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whom the certificate is for, as a distinguished name (RFC 4514): `CN=alice,O=Example`.
    pub subject: String,
    /// The subject's further names: `DNS:a.example, URI:spiffe://example/a`.
    pub names: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
}

impl Client {
    /// Read a certificate.
    ///
    /// # Errors
    /// [`Malformed`], also where it says more of its subject than a head can hold.
    pub fn parse(der: &[u8]) -> Result<Client, Malformed> {
        let mut fields = from_validity(der)?;
        fields.expect(SEQUENCE)?; // validity
        let subject = subject(fields.expect(SEQUENCE)?)?;
        let mut names = String::new();
        while !fields.0.is_empty() {
            if let (EXTENSIONS, extensions) = fields.next()? {
                names = further_names(Der(extensions).expect(SEQUENCE)?)?;
            }
        }
        if subject.len() > LONGEST || names.len() > LONGEST {
            return Err(Malformed);
        }
        let mut fingerprint = String::with_capacity(64);
        Sha256::digest(der).iter().for_each(|byte| hex(*byte, &mut fingerprint));
        Ok(Client { subject, names, fingerprint })
    }
}

/// The last part comes first (RFC 4514 §2.1).
fn subject(name: &[u8]) -> Result<String, Malformed> {
    let (mut parts, mut written) = (Der(name), Vec::new());
    while !parts.0.is_empty() {
        let (mut part, mut together) = (Der(parts.expect(SET)?), Vec::new());
        while !part.0.is_empty() {
            let mut attribute = Der(part.expect(SEQUENCE)?);
            let (kind, (tag, value)) = (attribute.expect(OBJECT)?, attribute.next()?);
            together.push(written_attribute(kind, tag, value));
        }
        written.push(together.join("+"));
    }
    written.reverse();
    Ok(written.join(","))
}

fn written_attribute(kind: &[u8], tag: u8, value: &[u8]) -> String {
    let mut text =
        KINDS.iter().find(|(known, _)| *known == kind).map_or_else(|| dotted(kind), |(_, name)| (*name).into());
    text.push('=');
    if TEXTS.contains(&tag) {
        escape(value, b",+\"\\<>;=", &mut text);
    } else {
        // Of another encoding: as the bytes that it is.
        text.push('#');
        value.iter().for_each(|byte| hex(*byte, &mut text));
    }
    text
}

/// An object identifier in digits (X.690 §8.19).
fn dotted(kind: &[u8]) -> String {
    let (mut text, mut number, mut first) = (String::new(), 0u64, true);
    for byte in kind {
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            let arc = if first { (number / 40).min(2) } else { number };
            let _ = if first { write!(text, "{arc}.{}", number - arc * 40) } else { write!(text, ".{arc}") };
            (number, first) = (0, false);
        }
    }
    text
}

fn further_names(extensions: &[u8]) -> Result<String, Malformed> {
    let (mut extensions, mut written) = (Der(extensions), String::new());
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.expect(SEQUENCE)?);
        let id = extension.expect(OBJECT)?;
        extension.skip_if(BOOLEAN)?; // critical
        let value = extension.expect(OCTETS)?;
        let mut entries = Der(if id == SUBJECT_ALT_NAME { Der(value).expect(SEQUENCE)? } else { &[] });
        while !entries.0.is_empty() {
            let (tag, name) = entries.next()?;
            let kind = match tag {
                DNS_NAME => "DNS:",
                ADDRESS => "IP:",
                URI => "URI:",
                EMAIL => "email:",
                _ => continue,
            };
            if !written.is_empty() {
                written.push_str(", ");
            }
            written.push_str(kind);
            match tag {
                ADDRESS => written.push_str(&address(name)?.to_string()),
                _ => escape(name, b",\\\"", &mut written),
            }
        }
    }
    Ok(written)
}

/// Printable ASCII as it is, and what has a meaning, or has none for a reader, as `\xx` (RFC 4514 §2.4).
fn escape(bytes: &[u8], special: &[u8], to: &mut String) {
    for (at, byte) in bytes.iter().enumerate() {
        let edge = at == 0 || at + 1 == bytes.len();
        let plain = matches!(byte, b' '..=b'~') && !special.contains(byte);
        if plain && !(edge && matches!(byte, b' ' | b'#')) {
            to.push(char::from(*byte));
        } else {
            to.push('\\');
            hex(*byte, to);
        }
    }
}

fn hex(byte: u8, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    to.push(char::from(DIGITS[usize::from(byte >> 4)]));
    to.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::super::certificate::INTEGER;
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x82, (content.len() >> 8) as u8, content.len() as u8], content].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[element(OBJECT, kind), element(tag, value)].concat())
    }

    fn certificate(subject: &[Vec<u8>], names: &[(u8, &[u8])]) -> Vec<u8> {
        let subject: Vec<u8> = subject.iter().flat_map(|part| element(SET, part)).collect();
        let names: Vec<u8> = names.iter().flat_map(|(tag, name)| element(*tag, name)).collect();
        let names = element(OCTETS, &element(SEQUENCE, &names));
        let extension = element(SEQUENCE, &[element(OBJECT, SUBJECT_ALT_NAME), names].concat());
        let fields = [
            element(INTEGER, &[1]),
            element(SEQUENCE, b""),
            element(SEQUENCE, b""),
            element(SEQUENCE, b""),
            element(SEQUENCE, &subject),
            element(SEQUENCE, b""),
            element(EXTENSIONS, &element(SEQUENCE, &extension)),
        ];
        element(SEQUENCE, &[element(SEQUENCE, &fields.concat()), element(SEQUENCE, b"")].concat())
    }

    const CN: &[u8] = &[0x55, 0x04, 0x03];
    const O: &[u8] = &[0x55, 0x04, 0x0a];

    #[test]
    fn a_subject_is_written_from_its_end() {
        let both = [attribute(CN, 0x0c, b"Alice, the \"first\""), attribute(&[0x2a, 0x03, 0x81, 0x00], 0x13, b"#1 ")];
        let subject = [attribute(O, 0x13, b"Example"), both.concat(), attribute(O, 0x1e, &[0x26, 0x3a])];
        let read = Client::parse(&certificate(&subject, &[])).unwrap();
        assert_eq!(read.subject, r"O=#263a,CN=Alice\2c the \22first\22+1.2.3.128=\231\20,O=Example");
        assert_eq!(read.names, "");
    }

    #[test]
    fn further_names_keep_their_kinds_apart() {
        let names: &[(u8, &[u8])] = &[
            (DNS_NAME, b"a.example"),
            (ADDRESS, &[127, 0, 0, 1]),
            (0x82, b"x, URI:admin"),
            (URI, b"spiffe://e/a"),
            (EMAIL, b"a@b"),
            (0xa0, b"x"),
        ];
        let read = Client::parse(&certificate(&[], names)).unwrap();
        assert_eq!(read.names, r"DNS:a.example, IP:127.0.0.1, DNS:x\2c URI:admin, URI:spiffe://e/a, email:a@b");
        assert_eq!(read.fingerprint.len(), 64);
    }

    #[test]
    fn what_fills_a_head_is_refused() {
        let long = [attribute(CN, 0x0c, &vec![b'a'; LONGEST])];
        assert_eq!(Client::parse(&certificate(&long, &[])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_it_says_is_one_line_of_ascii(name in proptest::collection::vec(any::<u8>(), 0..60), tag: u8) {
            let made = certificate(&[attribute(CN, tag, &name)], &[(DNS_NAME, &name), (URI, &name)]);
            let read = Client::parse(&made).unwrap();
            prop_assert!(read.subject.bytes().chain(read.names.bytes()).all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(read.names.matches(", ").count(), 1);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200, value: u8) {
            let _ = Client::parse(&bytes);
            let mut whole = certificate(&[attribute(CN, 0x0c, b"alice")], &[(DNS_NAME, b"a.example")]);
            if let Some(byte) = whole.get_mut(at) {
                *byte = value;
            }
            let _ = Client::parse(&whole);
        }
    }
}
