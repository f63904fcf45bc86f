use super::*;
use proptest::prelude::*;

fn question(body: Option<BodyTest>) -> HttpQuestion {
    let plan = HttpProbe {
        method: "GET".into(),
        path: "/healthz".into(),
        host: None,
        headers: vec![("x-probe".into(), "1".into())],
        statuses: vec![(200, 204), (301, 301)],
        body,
    };
    HttpQuestion::build(&plan).unwrap()
}

fn text(text: &str) -> Option<BodyTest> {
    Some(BodyTest::Text(text.into()))
}

/// The outcome of an answer that comes in pieces of `size`, and then the end.
fn outcome(question: &HttpQuestion, answer: &[u8], size: usize) -> Outcome {
    let mut reading = question.answer();
    let found = answer.chunks(size).find_map(|piece| reading.take(piece));
    found.unwrap_or_else(|| reading.end())
}

#[test]
fn the_request_is_as_configured() {
    let request = String::from_utf8(question(None).request("10.0.0.1:80")).unwrap();
    let (line, fields) = request.split_once("\r\n").unwrap();
    assert_eq!(line, "GET /healthz HTTP/1.1");
    for field in ["host: 10.0.0.1:80\r\n", "connection: close\r\n", "user-agent: penstock-probe\r\n", "x-probe: 1\r\n"]
    {
        assert!(fields.contains(field), "{fields}");
    }
    assert!(fields.ends_with("\r\n\r\n"));
}

#[test]
fn statuses_and_bodies_are_judged_however_they_are_cut() {
    use Outcome::{Answered, BadResponse, Body, Status};
    let (any, ok) = (question(None), question(text("ok")));
    let cases: [(&HttpQuestion, &[u8], Outcome); 15] = [
        (&any, b"HTTP/1.1 200 OK\r\n\r\n", Answered(200)),
        (&any, b"HTTP/1.1 301 X\r\ncontent-length: 5\r\n\r\n", Answered(301)),
        (&any, b"HTTP/1.1 302 X\r\n\r\n", Status(302)),
        (&any, b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 100 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n", Answered(204)),
        (&any, b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", Status(101)),
        (&any, b"", BadResponse),
        (&any, b"HTTP/1.1 200 OK\r\n", BadResponse),
        (&any, b"SSH-2.0-OpenSSH\r\n\r\n", BadResponse),
        (&any, b"\x16\x03\x01\0\n\n", BadResponse),
        (&ok, b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nall ok !", Answered(200)),
        (&ok, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\no ok", Body),
        (&ok, b"HTTP/1.1 200 OK\r\n\r\nall is ok", Answered(200)),
        (&ok, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", Answered(200)),
        (&ok, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nok\r\n", BadResponse),
        (&ok, b"HTTP/1.1 204 X\r\n\r\n", Body),
    ];
    for (question, answer, expected) in cases {
        for size in [1, 3, 7, 4096] {
            assert_eq!(outcome(question, answer, size), expected, "{:?} by {size}", String::from_utf8_lossy(answer));
        }
    }
}

#[test]
fn a_body_cut_short_is_no_answer() {
    let ok = question(text("ok"));
    assert_eq!(outcome(&ok, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", 100), Outcome::BadResponse);
}

#[test]
fn megabytes_are_not_kept() {
    let regex = question(Some(BodyTest::Regex("^a+b".into())));
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    let mut reading = regex.answer();
    assert_eq!(reading.take(head), None);
    let found = (0..1000).find_map(|_| reading.take(&[b'a'; 16 * 1024]));
    assert_eq!(found, Some(Outcome::Body));
    assert_eq!(reading.body.as_ref().map(|body| body.content.len()), Some(MOST));
    assert_eq!(outcome(&regex, &[&head[..], b"aaab"].concat(), 100), Outcome::Answered(200));
    // A head without an end, and interim responses without one.
    let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n".repeat(10_000)].concat();
    assert_eq!(outcome(&regex, &endless, 1000), Outcome::TooLong);
    assert_eq!(outcome(&regex, &b"HTTP/1.1 103 X\r\n\r\n".repeat(20), 1000), Outcome::BadResponse);
}

#[test]
fn a_pattern_that_is_none_is_refused() {
    let plan = HttpProbe { body: Some(BodyTest::Regex("(".into())), ..question(None).plan };
    assert_eq!(HttpQuestion::build(&plan).err().map(|(key, _)| key), Some("body.regex"));
}

proptest! {
    #[test]
    fn no_answer_reaches_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in 1usize..50) {
        outcome(&question(text("ok")), &bytes, size);
        let answer = [&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..], &bytes].concat();
        outcome(&question(text("ok")), &answer, size);
    }
}
