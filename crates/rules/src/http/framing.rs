//! The one rule for the length of a body (RFC 9112 §6, safety.md R2): any second opinion is refused.

use super::{Fields, Known, Version};
use crate::error::Kind;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    None,
    /// After so many bytes.
    Bytes(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; responses only.
    UntilClose,
}

/// Length of a request's body.
///
/// # Errors
/// `BadContentLength`, `BadTransferEncoding`.
pub fn of_request(version: Version, fields: &Fields) -> Result<Length, Kind> {
    let (encoded, bytes) = read(fields)?;
    match (encoded, bytes) {
        // RFC 9112 §6.1: a 1.0 sender that names a transfer coding is faulty, and so is one that also names a length.
        (true, _) if version == Version::Http10 => Err(Kind::BadTransferEncoding),
        (true, Some(_)) => Err(Kind::BadContentLength),
        (true, None) => Ok(Length::Chunked),
        (false, Some(0)) => Ok(Length::Bytes(0)),
        (false, Some(bytes)) => Ok(Length::Bytes(bytes)),
        (false, None) => Ok(Length::None),
    }
}

/// Length of a response's body, and the length it names even where it has none (HEAD, 304).
///
/// # Errors
/// `BadResponse`.
pub fn of_response(
    version: Version,
    status: u16,
    to_head: bool,
    fields: &Fields,
) -> Result<(Length, Option<u64>), Kind> {
    let (encoded, bytes) = read(fields).map_err(|_| Kind::BadResponse)?;
    if encoded && (bytes.is_some() || version == Version::Http10) {
        return Err(Kind::BadResponse);
    }
    let length = match (encoded, bytes) {
        _ if to_head || status < 200 || status == 204 || status == 304 => Length::None,
        (true, _) => Length::Chunked,
        (false, Some(bytes)) => Length::Bytes(bytes),
        (false, None) => Length::UntilClose,
    };
    Ok((length, bytes))
}

fn read(fields: &Fields) -> Result<(bool, Option<u64>), Kind> {
    let (mut encoded, mut bytes) = (false, None);
    if !fields.may_have(&[Known::TransferEncoding, Known::ContentLength]) {
        return Ok((false, None));
    }
    for (known, value) in fields.all_of_known() {
        match known {
            Known::TransferEncoding if encoded => return Err(Kind::BadTransferEncoding),
            Known::TransferEncoding if value.eq_ignore_ascii_case(b"chunked") => encoded = true,
            Known::TransferEncoding => return Err(Kind::BadTransferEncoding),
            Known::ContentLength if bytes.is_some() => return Err(Kind::BadContentLength),
            Known::ContentLength => bytes = Some(number(value)?),
            _ => {}
        }
    }
    Ok((encoded, bytes))
}

fn number(value: &[u8]) -> Result<u64, Kind> {
    // 19 digits fit.
    if value.is_empty() || value.len() > 19 {
        return Err(Kind::BadContentLength);
    }
    let (mut bytes, mut wrong) = (0u64, false);
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        wrong |= digit > 9;
        bytes = bytes.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    // What a signed 64-bit reader would see as negative is refused, too.
    if wrong || bytes > i64::MAX as u64 { Err(Kind::BadContentLength) } else { Ok(bytes) }
}

/// Whether the name is a framing field's to a reader that takes `_` for `-`, as CGI does.
pub(super) fn is_disguised(name: &[u8]) -> bool {
    name.contains(&b'_')
        && [&b"content-length"[..], b"transfer-encoding"].iter().any(|framing| {
            framing.len() == name.len()
                && framing
                    .iter()
                    .zip(name)
                    .all(|(want, have)| *want == have.to_ascii_lowercase() || (*want == b'-' && *have == b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Result<Length, Kind> {
        let mut all = Fields::default();
        fields.iter().for_each(|(name, value)| all.push(name, value));
        of_request(Version::Http11, &all)
    }

    #[test]
    fn one_length_and_no_second_opinion() {
        const CL: &str = "Content-Length";
        const TE: &str = "Transfer-Encoding";
        assert_eq!(request(&[]), Ok(Length::None));
        assert_eq!(request(&[(CL, "005")]), Ok(Length::Bytes(5)));
        assert_eq!(request(&[(TE, "Chunked")]), Ok(Length::Chunked));
        for value in [
            "",
            "+5",
            "-1",
            "-0",
            "0x5",
            "1_0",
            "5 5",
            "0o5",
            "5;",
            "5, 5",
            "5,6",
            "\x0b5",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            assert_eq!(request(&[(CL, value)]), Err(Kind::BadContentLength), "{value}");
        }
        for value in [
            "",
            "xchunked",
            "identity",
            "chunked, gzip",
            "gzip, chunked",
            "chunked, chunked",
            ",chunked",
            "chunked,",
            "chunked;q=1",
            "\x0bchunked",
        ] {
            assert_eq!(request(&[(TE, value)]), Err(Kind::BadTransferEncoding), "{value}");
        }
        assert_eq!(request(&[(CL, "5"), (CL, "5")]), Err(Kind::BadContentLength));
        assert_eq!(request(&[(TE, "chunked"), (TE, "chunked")]), Err(Kind::BadTransferEncoding));
        assert_eq!(request(&[(TE, "chunked"), (CL, "4")]), Err(Kind::BadContentLength));
        assert!(
            is_disguised(b"Content_Length") && is_disguised(b"transfer_encoding") && !is_disguised(b"content_type")
        );
    }

    #[test]
    fn responses_to_head_and_304_name_a_length_they_do_not_have() {
        let mut fields = Fields::default();
        fields.push("Content-Length", "7");
        let of = |status, to_head| of_response(Version::Http11, status, to_head, &fields);
        assert_eq!(of(200, false), Ok((Length::Bytes(7), Some(7))));
        assert_eq!(of(200, true), Ok((Length::None, Some(7))));
        assert_eq!(of(304, false), Ok((Length::None, Some(7))));
        assert_eq!(of_response(Version::Http11, 200, false, &Fields::default()), Ok((Length::UntilClose, None)));
    }
}
