//! Connections of HTTP/2: the same streams, bodies and answers however the bytes are cut, and nothing beyond the limits.

use crate::split;
use penstock_rules::http::h2::{Cut, Fault, Key, Limits, Server};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const LIMITS: Limits = Limits { streams: 8, head: 4096, stream_window: 65_535, connection_window: 65_535 };
/// What comes before the input: it is of interest how frames are read, and not whether a preface is found.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What came of a connection.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    verdict: Result<(), Fault>,
    streams: Vec<Stream>,
    output: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
struct Stream {
    key: Key,
    /// Its pseudo-fields and fields, if it is a request.
    head: Option<String>,
    body: Result<Vec<u8>, Cut>,
}

/// Check one input: the frames of a client.
pub fn check(bytes: &[u8]) {
    let whole = run(&[bytes]);
    for pieces in split::ways(bytes) {
        assert_eq!(run(&pieces), whole, "in {} pieces and whole", pieces.len());
    }
}

fn run(pieces: &[&[u8]]) -> Outcome {
    let mut server = Server::new(LIMITS);
    server.take(BEGIN, Duration::ZERO).expect("it is in order");
    let mut verdict = Ok(());
    for piece in pieces {
        verdict = server.take(piece, Duration::ZERO);
        assert!(server.kept() <= 65_535 + server.output().len(), "more than the window");
        if verdict.is_err() {
            break;
        }
    }
    let mut streams = Vec::new();
    while let Some(opened) = server.next_opened() {
        let head = opened.head.pseudo(false).ok().map(|pseudo| {
            assert!(!pseudo.path.contains(['\r', '\n', ' ']) && !pseudo.method.is_empty());
            let fields: Vec<_> = opened.head.fields().collect();
            assert!(fields.iter().all(|(_, value)| !value.contains(&b'\n')));
            format!("{pseudo:?} {fields:?}")
        });
        let body = body(&mut server, opened.key);
        streams.push(Stream { key: opened.key, head, body });
    }
    assert!(streams.len() <= 16, "more streams than may be");
    for stream in &streams {
        answer(&mut server, stream.key);
    }
    assert_eq!(server.kept(), server.output().len(), "nothing is left of a body");
    Outcome { verdict, streams, output: server.output().to_vec() }
}

fn body(server: &mut Server, key: Key) -> Result<Vec<u8>, Cut> {
    let mut body = Vec::new();
    loop {
        match server.poll_data(key, &Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(bytes))) => {
                server.used_up(key, bytes.len());
                body.extend(bytes);
            }
            Poll::Ready(Err(cut)) => return Err(cut),
            Poll::Ready(Ok(None)) | Poll::Pending => return Ok(body),
        }
    }
}

fn answer(server: &mut Server, key: Key) {
    let fields = [(&b"server"[..], &b"shop"[..])].into_iter();
    let sent = server.send_head(key, 200, fields, false);
    assert_eq!(sent.err(), server.cut(key));
    let room = server.room(key, 100);
    if sent.is_ok() {
        server.send_data(key, &[7; 100][..room], true).expect("it is open");
    }
    server.let_go(key);
}
