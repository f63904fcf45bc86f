//! What of a certificate is looked at: its validity and the names it is good for (RFC 5280 §4.1). It comes from a file of ours, not
//! from the network; that its signature and key are right is for the TLS library to say.

use super::UnixSeconds;
use std::fmt;
use std::net::IpAddr;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names, in lower case, wildcards included, and addresses as text.
    pub names: Vec<String>,
    /// First moment of its validity.
    pub not_before: UnixSeconds,
    /// Last moment of its validity.
    pub not_after: UnixSeconds,
    /// Its number among those of its issuer, as DER has it.
    pub serial: Vec<u8>,
}

/// Not DER, or not a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("is no X.509 certificate")
    }
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const VERSION: u8 = 0xa0;
pub(super) const EXTENSIONS: u8 = 0xa3;
/// id-ce-subjectAltName, 2.5.29.17.
pub(super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
pub(super) const DNS_NAME: u8 = 0x82;
pub(super) const ADDRESS: u8 = 0x87;

/// What a certificate says from its validity on (RFC 5280 §4.1).
pub(super) fn from_validity(der: &[u8]) -> Result<Der<'_>, Malformed> {
    from_serial(der).map(|(_, fields)| fields)
}

/// Its serial number, and what stands from its validity on.
fn from_serial(der: &[u8]) -> Result<(&[u8], Der<'_>), Malformed> {
    let mut signed = Der(Der(der).expect(SEQUENCE)?);
    let mut fields = Der(signed.expect(SEQUENCE)?);
    fields.skip_if(VERSION)?;
    let serial = fields.expect(INTEGER)?;
    fields.expect(SEQUENCE)?; // signature algorithm
    fields.expect(SEQUENCE)?; // issuer
    Ok((serial, fields))
}

impl Certificate {
    /// Read a certificate.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(der: &[u8]) -> Result<Certificate, Malformed> {
        let (serial, mut fields) = from_serial(der)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let mut names = Vec::new();
        while !fields.0.is_empty() {
            if let (EXTENSIONS, extensions) = fields.next()? {
                names = subject_alt_names(Der(extensions).expect(SEQUENCE)?)?;
            }
        }
        Ok(Certificate { names, not_before, not_after, serial: serial.to_vec() })
    }

    /// Whole days until it ends at `now`; negative once it has.
    pub fn days_left(&self, now: UnixSeconds) -> i64 {
        (self.not_after - now).div_euclid(86_400)
    }
}

fn subject_alt_names(extensions: &[u8]) -> Result<Vec<String>, Malformed> {
    let (mut extensions, mut names) = (Der(extensions), Vec::new());
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.expect(SEQUENCE)?);
        let id = extension.expect(OBJECT)?;
        extension.skip_if(BOOLEAN)?; // critical
        let value = extension.expect(OCTETS)?;
        if id != SUBJECT_ALT_NAME {
            continue;
        }
        let mut entries = Der(Der(value).expect(SEQUENCE)?);
        while !entries.0.is_empty() {
            match entries.next()? {
                (DNS_NAME, name) if name.is_ascii() => {
                    names.push(String::from_utf8_lossy(name).to_ascii_lowercase());
                }
                (ADDRESS, octets) => names.push(address(octets)?.to_string()),
                _ => {}
            }
        }
    }
    Ok(names)
}

pub(super) fn address(octets: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Ok(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(octets).map(IpAddr::from).map_err(|_| Malformed)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
pub(super) fn time((tag, text): (u8, &[u8])) -> Result<UnixSeconds, Malformed> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit)).ok_or(Malformed)?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => digits.split_at(2),
        (GENERALIZED_TIME, 14) => digits.split_at(4),
        _ => return Err(Malformed),
    };
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let year = match number(year) {
        year if tag == GENERALIZED_TIME => year,
        year if year < 50 => 2000 + year,
        year => 1900 + year,
    };
    let mut pairs = rest.chunks(2).map(number);
    let mut pair = || pairs.next().unwrap_or_default();
    let (month, day, hour, minute, second) = (pair(), pair(), pair(), pair(), pair());
    Ok(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970 in the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// What is left to read of DER: tag, length, content, one behind the other.
pub(super) struct Der<'d>(pub(super) &'d [u8]);

impl<'d> Der<'d> {
    pub(super) fn next(&mut self) -> Result<(u8, &'d [u8]), Malformed> {
        let (&[tag, first], rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed)?;
                (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            // Not DER, or longer than anything in a certificate.
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok((tag, content))
    }

    pub(super) fn expect(&mut self, tag: u8) -> Result<&'d [u8], Malformed> {
        self.next().and_then(|(found, content)| if found == tag { Ok(content) } else { Err(Malformed) })
    }

    pub(super) fn skip_if(&mut self, tag: u8) -> Result<(), Malformed> {
        if self.0.first() == Some(&tag) { self.next().map(drop) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut made = match length {
            0..0x80 => vec![tag, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        made.extend_from_slice(content);
        made
    }

    fn certificate(validity: [(u8, &[u8]); 2], names: &[(u8, &[u8])]) -> Vec<u8> {
        let validity: Vec<u8> = validity.iter().flat_map(|(tag, text)| element(*tag, text)).collect();
        let names: Vec<u8> = names.iter().flat_map(|(tag, name)| element(*tag, name)).collect();
        let names = element(OCTETS, &element(SEQUENCE, &names));
        let critical = element(BOOLEAN, &[0xff]);
        let other = element(
            SEQUENCE,
            &[element(OBJECT, &[0x55, 0x1d, 0x13]), critical.clone(), element(OCTETS, b"x")].concat(),
        );
        let names = element(SEQUENCE, &[element(OBJECT, SUBJECT_ALT_NAME), critical, names].concat());
        let fields = [
            element(VERSION, &element(INTEGER, &[2])),
            element(INTEGER, &[1]),
            element(SEQUENCE, b""),
            element(SEQUENCE, b""),
            element(SEQUENCE, &validity),
            element(SEQUENCE, b""),
            element(SEQUENCE, &vec![0; 300]),
            element(EXTENSIONS, &element(SEQUENCE, &[other, names].concat())),
        ];
        element(SEQUENCE, &[element(SEQUENCE, &fields.concat()), element(SEQUENCE, b"")].concat())
    }

    const YEAR: [(u8, &[u8]); 2] = [(UTC_TIME, b"260101000000Z"), (GENERALIZED_TIME, b"20501231235959Z")];

    #[test]
    fn names_and_validity_are_read() {
        let names: &[(u8, &[u8])] = &[
            (DNS_NAME, b"Shop.example"),
            (0x81, b"a@b.example"),
            (DNS_NAME, b"*.shop.example"),
            (ADDRESS, &[127, 0, 0, 1]),
        ];
        let read = Certificate::parse(&certificate(YEAR, names)).unwrap();
        assert_eq!(read.serial, [1]);
        assert_eq!(read.names, ["shop.example", "*.shop.example", "127.0.0.1"]);
        assert_eq!((read.not_before, read.not_after), (1_767_225_600, 2_556_143_999));
        assert_eq!(read.days_left(read.not_after - 86_400), 1);
        assert_eq!(read.days_left(read.not_after), 0);
        assert_eq!(read.days_left(read.not_after + 1), -1);
    }

    #[test]
    fn times_of_both_forms_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, &b"700101000000Z"[..], Ok(0)),
            (UTC_TIME, b"490101000000Z", Ok(2_493_072_000)),
            (UTC_TIME, b"500101000000Z", Ok(-631_152_000)),
            (GENERALIZED_TIME, b"20240229120000Z", Ok(1_709_208_000)),
            (UTC_TIME, b"2601010000Z", Err(Malformed)),
            (UTC_TIME, b"260101000000+0100", Err(Malformed)),
            (GENERALIZED_TIME, b"260101000000Z", Err(Malformed)),
            (INTEGER, b"260101000000Z", Err(Malformed)),
        ] {
            assert_eq!(time((tag, text)), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_was_cut_is_no_certificate() {
        let whole = certificate(YEAR, &[(DNS_NAME, b"a.example")]);
        assert!((0..whole.len()).all(|cut| Certificate::parse(&whole[..cut]).is_err()));
        assert_eq!(Certificate::parse(b"-----BEGIN"), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..400, value: u8) {
            let _ = Certificate::parse(&bytes);
            let mut whole = certificate(YEAR, &[(DNS_NAME, b"a.example")]);
            if let Some(byte) = whole.get_mut(at) {
                *byte = value;
            }
            let _ = Certificate::parse(&whole);
        }
    }
}
