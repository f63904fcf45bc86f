//! Heads of requests: one verdict however the bytes are cut, and a canonical form that every reader reads alike.

use crate::path_and_host;
use crate::split;
use crate::written::{self, shown};
use penstock_rules::error::Kind;
use penstock_rules::http::{
    BodyFraming, HeadLimits, HeadScan, HostLine, Identity, Known, Length, RequestHead, RequestLines, Scanned, Target,
    Version, write_request,
};

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 32, uri: 1024, elsewhere: false };
/// What we add may take a head beyond the limits that it kept.
const WIDE: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 100, uri: 8192, elsewhere: false };

/// Check one input: the bytes a client sends.
pub fn check(bytes: &[u8]) {
    let whole = verdict(&[bytes]);
    for pieces in split::ways(bytes) {
        let parts = pieces.len();
        assert_eq!(verdict(&pieces), whole, "in {parts} pieces and whole: {}", shown(bytes));
    }
    if let Ok(Some((start, end))) = whole {
        let mut head = RequestHead::default();
        head.parse(&bytes[start..end], &LIMITS).expect("the same bytes, the same verdict");
        check_accepted(&bytes[start..end], head);
    }
}

/// Where the head lies, once it is whole and good.
fn verdict(pieces: &[&[u8]]) -> Result<Option<(usize, usize)>, Kind> {
    let (mut scan, mut had) = (HeadScan::default(), Vec::new());
    for piece in pieces {
        had.extend_from_slice(piece);
        if let Scanned::Head { start, end } = scan.advance(&had)? {
            RequestHead::default().parse(&had[start..end], &LIMITS)?;
            return Ok(Some((start, end)));
        }
    }
    Ok(None)
}

fn check_accepted(bytes: &[u8], mut head: RequestHead) {
    check_parts(bytes, &head);
    // As an exchange does for a client that is believed nothing.
    head.strip_identity(false);
    head.strip_listed();
    let first = write(&head);
    check_written(&head, &first);
    let mut again = RequestHead::default();
    again.parse(&first, &WIDE).unwrap_or_else(|kind| panic!("{kind:?} for what we wrote: {}", shown(&first)));
    assert_eq!(message(&again), message(&head), "read, written and read again: {}", shown(&first));
    // From here on every field is of our making, and nothing changes any more.
    let second = write(&without_ours(&again));
    again.parse(&second, &WIDE).expect("written twice");
    assert_eq!(shown(&write(&without_ours(&again))), shown(&second), "no fixed point");
}

fn check_parts(bytes: &[u8], head: &RequestHead) {
    assert_eq!(head.raw_length(), bytes.len());
    assert!(!head.method().is_empty() && head.method().bytes().all(written::is_token));
    if head.target == Target::Server {
        assert_eq!((head.method(), head.path(), head.query()), ("OPTIONS", "*", None));
    } else {
        path_and_host::check_canonical(head.path());
    }
    let host = head.host();
    assert!(!host.is_empty() || head.version == Version::Http10, "a 1.1 request without a host");
    // RFC 9112 §6: one rule for the length of a body, and it is the one that the fields tell.
    let (lengths, codings) =
        (head.fields.all_known(Known::ContentLength).count(), head.fields.all_known(Known::TransferEncoding).count());
    match head.length {
        Length::None => assert_eq!((lengths, codings), (0, 0)),
        Length::Bytes(_) => assert_eq!((lengths, codings), (1, 0)),
        Length::Chunked => assert_eq!((lengths, codings), (0, 1)),
        Length::UntilClose => panic!("a request that ends with the connection"),
    }
}

fn check_written(head: &RequestHead, bytes: &[u8]) {
    let written = written::read(bytes);
    let target = head.query().map_or(head.path().to_owned(), |query| format!("{}?{query}", head.path()));
    assert_eq!(written.start, format!("{} {target} HTTP/1.1", head.method()).as_bytes());
    match head.length {
        Length::Bytes(length) => assert_eq!(written.length(), (Some(length), false)),
        Length::Chunked => assert_eq!(written.length(), (None, true)),
        Length::None | Length::UntilClose => assert_eq!(written.length(), (None, false)),
    }
    assert_eq!(written.all("host").len(), 1, "one Host");
    let ours: &[&str] = match (head.options.upgrade, head.length, head.options.te_trailers) {
        (true, Length::Chunked, _) => &["transfer-encoding", "connection", "upgrade"],
        (true, ..) => &["connection", "upgrade"],
        (_, Length::Chunked, true) => &["transfer-encoding", "connection", "te"],
        (_, Length::Chunked, _) => &["transfer-encoding"],
        (_, _, true) => &["connection", "te"],
        _ => &[],
    };
    written.is_for_the_next_hop(ours);
    assert_eq!(written.all("x-forwarded-for"), [b"192.0.2.1"], "the client alone says who it is");
    for (name, _) in &written.fields {
        assert!(!name.contains('_'), "a name that CGI reads as another: {name}");
    }
}

fn write(head: &RequestHead) -> Vec<u8> {
    let lines = RequestLines {
        outward: None,
        host: HostLine::Keep("192.0.2.9:80"),
        framing: match head.length {
            Length::None | Length::UntilClose => BodyFraming::None,
            Length::Bytes(bytes) => BodyFraming::Bytes(bytes),
            Length::Chunked => BodyFraming::Chunked,
        },
        identity: &Identity::new("192.0.2.1", "http", Some(80)),
        trusted: false,
        request_id: b"",
        upgrade: head.options.upgrade,
    };
    let mut bytes = Vec::new();
    write_request(head, &lines, &mut bytes);
    bytes
}

fn without_ours(head: &RequestHead) -> RequestHead {
    let mut head = head.clone();
    head.strip_identity(false);
    head.strip_listed();
    head.fields.retain(|field| field.known != Known::Via || !field.value.ends_with(b" penstock"));
    head
}

/// What a message says to the next hop.
fn message(head: &RequestHead) -> impl PartialEq + std::fmt::Debug {
    let head = without_ours(head);
    let fields = written::end_to_end(&head.fields, &[Known::Expect, Known::Host]);
    let (host, port) = if head.host().is_empty() { ("192.0.2.9", Some(80)) } else { (head.host(), head.port()) };
    (
        head.method().to_owned(),
        (head.path().to_owned(), head.query().map(str::to_owned)),
        (host.to_owned(), port),
        head.length,
        (head.options.expect_continue, head.options.upgrade, head.options.te_trailers || head.options.upgrade),
        fields,
    )
}
