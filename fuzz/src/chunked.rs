//! Chunked bodies: the same data however the bytes are cut, nothing taken beyond the end, and a canonical form.

use crate::split;
use crate::written::shown;
use penstock_rules::error::Kind;
use penstock_rules::http::Known;
use penstock_rules::http::chunked::{Decoder, write_end, write_size};

/// What a whole body is: data, trailer fields, and bytes of the input that it took.
#[derive(Clone, Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    taken: usize,
}

/// Check one input: a chunked body and what follows it.
pub fn check(bytes: &[u8]) {
    let whole = verdict(&[bytes]);
    for pieces in split::ways(bytes) {
        let parts = pieces.len();
        assert_eq!(verdict(&pieces), whole, "in {parts} pieces and whole: {}", shown(bytes));
    }
    if let Ok(Some(body)) = whole {
        check_accepted(&bytes[..body.taken], &body);
    }
}

fn verdict(pieces: &[&[u8]]) -> Result<Option<Body>, Kind> {
    let (mut decoder, mut data, mut taken) = (Decoder::default(), Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let step = decoder.step(rest)?;
            let end = step.skip + step.data;
            assert!(end <= rest.len(), "more taken than given");
            assert!(end > 0 || step.done, "no progress");
            data.extend_from_slice(&rest[step.skip..end]);
            rest = &rest[end..];
            taken += end;
            if step.done {
                let fields = decoder.trailers()?;
                let trailers = fields.iter().map(|field| (shown(field.name), shown(field.value))).collect();
                return Ok(Some(Body { data, trailers, taken }));
            }
        }
    }
    Ok(None)
}

fn check_accepted(bytes: &[u8], body: &Body) {
    assert_eq!(plain(bytes).as_deref(), Some(&body.data[..]), "a plain reader reads {}", shown(bytes));
    let mut decoder = Decoder::default();
    drain(&mut decoder, bytes);
    let trailers = decoder.trailers().expect("read once already");
    for field in trailers.iter() {
        assert_eq!(field.known, Known::Other, "a trailer that frames, routes or identifies");
        let clean = |part: &[u8]| !part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        assert!(clean(field.name) && clean(field.value), "a bare CR, LF or NUL in a trailer");
    }
    let mut canonical = Vec::new();
    for piece in body.data.chunks(7) {
        write_size(piece.len(), &mut canonical);
        canonical.extend_from_slice(piece);
        canonical.extend_from_slice(b"\r\n");
    }
    write_end(Some(&trailers), &mut canonical);
    // Chunks of 7 bytes with a long trailer section may be more framing than a sender is allowed; ours are never so small.
    if canonical.len() < 16 * 1024 {
        let expected = Body { taken: canonical.len(), ..body.clone() };
        assert_eq!(verdict(&[&canonical]), Ok(Some(expected)), "written and read again");
    }
}

fn drain(decoder: &mut Decoder, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let step = decoder.step(rest).expect("read once already");
        rest = &rest[step.skip + step.data..];
        if step.done {
            return;
        }
    }
}

/// The data of a chunked body as the shortest reader of RFC 9112 §7.1 sees it; `None` where it is lost.
fn plain(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = bytes[..end].split(|&byte| byte == b';').next()?;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            // Trailers: the blank line must be the last of the body.
            return (bytes == b"\r\n" || bytes.ends_with(b"\r\n\r\n")).then_some(data);
        }
        data.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
