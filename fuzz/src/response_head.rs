//! Heads of responses: the same as for requests, from the other side.

use crate::split;
use crate::written::{self, shown};
use penstock_rules::error::Kind;
use penstock_rules::http::{
    BodyFraming, HeadLimits, HeadScan, Known, Length, Persistence, ResponseHead, ResponseLines, Scanned, reason_phrase,
    write_response,
};

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 32, uri: 0, elsewhere: false };
const WIDE: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 200, uri: 0, elsewhere: false };

/// Check one input: a byte that says whether HEAD was asked, and the bytes that an endpoint sends.
pub fn check(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let to_head = first == b'H';
    let whole = verdict(&[bytes], to_head);
    for pieces in split::ways(bytes) {
        let parts = pieces.len();
        assert_eq!(verdict(&pieces, to_head), whole, "in {parts} pieces and whole: {}", shown(bytes));
    }
    if let Ok(Some((start, end))) = whole {
        let mut head = ResponseHead::default();
        head.parse(&bytes[start..end], &LIMITS, to_head).expect("the same bytes, the same verdict");
        check_accepted(head, to_head);
    }
}

fn verdict(pieces: &[&[u8]], to_head: bool) -> Result<Option<(usize, usize)>, Kind> {
    let (mut scan, mut had) = (HeadScan::default(), Vec::new());
    for piece in pieces {
        had.extend_from_slice(piece);
        if let Scanned::Head { start, end } = scan.advance(&had).map_err(|_| Kind::BadResponse)? {
            ResponseHead::default().parse(&had[start..end], &LIMITS, to_head)?;
            return Ok(Some((start, end)));
        }
    }
    Ok(None)
}

fn check_accepted(mut head: ResponseHead, to_head: bool) {
    assert!((100..=999).contains(&head.status));
    let bodiless = to_head || head.status < 200 || head.status == 204 || head.status == 304;
    assert!(!bodiless || head.length == Length::None, "a body where there is none");
    head.strip_listed();
    for version in [Version::Kept, Version::Closed] {
        let first = write(&head, version);
        let mut again = ResponseHead::default();
        again
            .parse(&first, &WIDE, to_head)
            .unwrap_or_else(|kind| panic!("{kind:?} for what we wrote: {}", shown(&first)));
        check_written(&head, &first, version);
        assert_eq!(message(&again), message(&head), "read, written and read again: {}", shown(&first));
        again.fields.retain(|field| field.known != Known::Via || !field.value.ends_with(b" penstock"));
        again.strip_listed();
        let second = write(&again, version);
        again.parse(&second, &WIDE, to_head).expect("written twice");
        again.fields.retain(|field| field.known != Known::Via || !field.value.ends_with(b" penstock"));
        assert_eq!(shown(&write(&again, version)), shown(&second), "no fixed point");
    }
}

/// What becomes of the connection to the client.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    Kept,
    Closed,
}

fn framing(head: &ResponseHead) -> BodyFraming {
    match (head.length, head.declared) {
        (Length::None, Some(bytes)) if head.status >= 200 && head.status != 204 => BodyFraming::Bytes(bytes),
        (Length::None, _) => BodyFraming::None,
        (Length::Bytes(bytes), _) => BodyFraming::Bytes(bytes),
        (Length::Chunked | Length::UntilClose, _) => BodyFraming::Chunked,
    }
}

fn write(head: &ResponseHead, version: Version) -> Vec<u8> {
    let persistence = match (head.status, version) {
        (101, _) => Persistence::Upgrade,
        (_, Version::Kept) => Persistence::Kept,
        (_, Version::Closed) => Persistence::Close,
    };
    let mut bytes = Vec::new();
    write_response(head, &ResponseLines { framing: framing(head), persistence, via: true, date: None }, &mut bytes);
    bytes
}

fn check_written(head: &ResponseHead, bytes: &[u8], version: Version) {
    let written = written::read(bytes);
    assert!(written.start.starts_with(format!("HTTP/1.1 {} ", head.status).as_bytes()), "{}", shown(written.start));
    let (length, chunked) = written.length();
    match framing(head) {
        BodyFraming::Bytes(bytes) => assert_eq!((length, chunked), (Some(bytes), false)),
        BodyFraming::Chunked => assert_eq!((length, chunked), (None, true)),
        BodyFraming::None | BodyFraming::UntilClose => assert_eq!((length, chunked), (None, false)),
    }
    let ours: &[&str] = match (head.status, version) {
        (101, _) => &["connection", "upgrade"],
        (_, Version::Closed) if chunked => &["transfer-encoding", "connection"],
        (_, Version::Closed) => &["connection"],
        (_, Version::Kept) if chunked => &["transfer-encoding"],
        (_, Version::Kept) => &[],
    };
    written.is_for_the_next_hop(ours);
}

fn message(head: &ResponseHead) -> impl PartialEq + std::fmt::Debug {
    let fields = written::end_to_end(&head.fields, &[]);
    let reason = if head.reason().is_empty() { reason_phrase(head.status).as_bytes() } else { head.reason() };
    (head.status, shown(reason), framing(head), fields)
}
