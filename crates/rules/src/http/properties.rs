//! Properties of whole heads, which no file beside this one owns alone: reading and judging in pieces, writing and reading again.
//! The fuzz targets (`fuzz/`) check the same and more, for longer.

use super::*;
use crate::error::Kind;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 65536, fields: 6, uri: 64, elsewhere: false };

/// Lines of a head: good ones, and those that one reader or another would let pass.
const FIELD: &str = "(Host: a|Content-Length: 0?5|Transfer-Encoding: [cC]hunked|Connection: (close|X-A|host)|X-A: b|X_A: b|\
                     TE: trailers|Expect: 100-continue|Upgrade: (h2c|x)|Via: 1.1 a|X-A: b\rc|X-A:\tb |X-A: \u{1}| X-A: b)";

fn request_start() -> impl Strategy<Value = String> {
    "(\r\n)?(GET|POST|OPTIONS|CONNECT) (/|/a/\\.\\./b\\?c|\\*|/#|/\\.\\.|http://a/) HTTP/(1\\.[012]|2\\.0)"
}

fn head(start: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"]);
    (start, prop::collection::vec((FIELD, end.clone()), 0..8), end, "[A\r\n]{0,3}").prop_map(
        |(start, lines, end, behind)| {
            let lines: String = lines.into_iter().map(|(line, end)| line + end).collect();
            format!("{start}\r\nHost: a\r\n{lines}{end}{behind}").into_bytes()
        },
    )
}

/// Scan `bytes` as they grow to each of `ends`; what `parse` says of the head, once it is whole.
fn verdict<T>(
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
    parse: impl Fn(&[u8]) -> Result<T, Kind>,
) -> Result<Option<T>, Kind> {
    let mut scan = HeadScan::default();
    for end in ends {
        let had = &bytes[..end];
        if let Scanned::Head { start, end } = scan.advance(had)? {
            return parse(&had[start..end]).map(Some);
        }
    }
    Ok(None)
}

/// The verdict whole, byte by byte and cut once is the same; `kind` is what a failure is told as.
fn same_in_pieces(
    bytes: &[u8],
    cut: usize,
    parse: impl Fn(&[u8]) -> Result<String, Kind>,
    kind: fn(Kind) -> Kind,
) -> Result<(), TestCaseError> {
    let cut = cut.min(bytes.len());
    let whole = verdict(bytes, [bytes.len()], &parse).map_err(kind);
    prop_assert_eq!(&verdict(bytes, 1..=bytes.len(), &parse).map_err(kind), &whole, "byte by byte");
    prop_assert_eq!(&verdict(bytes, [cut, bytes.len()], &parse).map_err(kind), &whole, "cut at {}", cut);
    Ok(())
}

fn request(bytes: &[u8]) -> Result<RequestHead, Kind> {
    let mut head = RequestHead::default();
    head.parse(bytes, &LIMITS).map(|()| head)
}

fn written(head: &RequestHead) -> Vec<u8> {
    let lines = RequestLines {
        outward: None,
        host: HostLine::Keep("a"),
        framing: match head.length {
            Length::Bytes(bytes) => BodyFraming::Bytes(bytes),
            Length::Chunked => BodyFraming::Chunked,
            Length::None | Length::UntilClose => BodyFraming::None,
        },
        identity: &Identity::new("192.0.2.1", "http", None),
        trusted: false,
        request_id: b"",
        upgrade: head.options.upgrade,
    };
    let mut bytes = Vec::new();
    write_request(head, &lines, &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn every_split_of_a_request_head_gives_the_same_verdict(bytes in head(request_start()), cut in 0usize..200) {
        let parse = |head: &[u8]| request(head).map(|head| format!("{} {}", head.raw_length(), head.path()));
        same_in_pieces(&bytes, cut, parse, |kind| kind)?;
    }

    #[test]
    fn every_split_of_a_response_head_gives_the_same_verdict(
        bytes in head("HTTP/1\\.[01] (200|204|101|099|1000)( OK)?".boxed()),
        cut in 0usize..200,
    ) {
        let parse = |bytes: &[u8]| {
            let mut head = ResponseHead::default();
            head.parse(bytes, &LIMITS, false).map(|()| format!("{} {:?}", head.status, head.length))
        };
        // The connection to an endpoint tells what the scan refuses as a bad response, too.
        same_in_pieces(&bytes, cut, parse, |kind| if kind == Kind::BadHead { Kind::BadResponse } else { kind })?;
    }

    #[test]
    fn what_is_written_reads_as_what_was_read(bytes in head(request_start())) {
        let Ok(Some(mut head)) = verdict(&bytes, [bytes.len()], request) else { return Ok(()) };
        head.strip_identity(false);
        head.strip_listed();
        let wide = HeadLimits { fields: 20, ..LIMITS };
        let mut again = RequestHead::default();
        prop_assert_eq!(again.parse(&written(&head), &wide), Ok(()));
        prop_assert_eq!(
            (again.method(), again.path(), again.query(), again.host(), again.length),
            (head.method(), head.path(), head.query(), head.host(), head.length)
        );
        again.strip_identity(false);
        again.fields.retain(|field| field.known != Known::Via || !field.value.ends_with(b" penstock"));
        let second = written(&again);
        prop_assert_eq!(again.parse(&second, &wide), Ok(()));
        again.strip_identity(false);
        again.fields.retain(|field| field.known != Known::Via || !field.value.ends_with(b" penstock"));
        prop_assert_eq!(written(&again), second);
    }

    #[test]
    fn canonical_hosts_stay_as_they_are(value in "[aA.:\\[\\]0-2]{0,12}") {
        let mut to = [0; host::LONGEST];
        if let Ok((length, _)) = host::canonical(value.as_bytes(), &mut to) {
            let once = to[..length].to_vec();
            prop_assert_eq!(host::canonical(&once, &mut to), Ok((length, None)));
            prop_assert_eq!(&to[..length], &once[..]);
        }
    }
}
