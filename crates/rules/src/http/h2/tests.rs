use super::frame::{self, FrameHead};
use super::*;
use crate::http::hpack::{Decoder, Encoder};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const NOW: Duration = Duration::from_secs(100);
const LIMITS: Limits = Limits { streams: 4, head: 8192, stream_window: 100_000, connection_window: 200_000 };
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client, with what it remembers of its connection.
struct Client {
    encoder: Encoder,
    decoder: Decoder,
    server: Server,
}

/// A frame that we sent.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_head(&mut bytes, payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
    bytes
}

fn number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    raw(kind, 0, stream, &number.to_be_bytes())
}

impl Client {
    /// One that has said what it takes, and has read what we do.
    fn new() -> Client {
        let mut client = Client::silent();
        client.say(&[PREFACE.to_vec(), raw(frame::SETTINGS, 0, 0, &[])]).unwrap();
        assert!(client.server.is_settled());
        client.read();
        client
    }

    fn silent() -> Client {
        Client { encoder: Encoder::new(), decoder: Decoder::new(4096), server: Server::new(LIMITS) }
    }

    fn say(&mut self, frames: &[Vec<u8>]) -> Result<(), Fault> {
        self.server.take(&frames.concat(), NOW)
    }

    fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        fields.iter().for_each(|(name, value)| {
            self.encoder.field(name.as_bytes(), value.as_bytes(), true, &mut block);
        });
        block
    }

    fn get(&mut self, stream: u32) -> Vec<u8> {
        let block = self.block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]);
        raw(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, stream, &block)
    }

    fn post(&mut self, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
        let pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
        let block = self.block(&[&pseudo[..], fields].concat());
        raw(frame::HEADERS, frame::END_HEADERS, stream, &block)
    }

    /// What we sent since the last look.
    fn read(&mut self) -> Vec<Seen> {
        let out = self.server.output().to_vec();
        self.server.wrote(out.len());
        let (mut rest, mut seen) = (out.as_slice(), Vec::new());
        while let Some((head, behind)) = rest.split_first_chunk() {
            let FrameHead { length, kind, flags, stream } = FrameHead::read(head);
            seen.push(Seen { kind, flags, stream, payload: behind[..length].to_vec() });
            rest = &behind[length..];
        }
        seen
    }

    fn opened(&mut self) -> Key {
        self.server.next_opened().unwrap().key
    }

    fn asked(&mut self, stream: u32) -> Key {
        let get = self.get(stream);
        self.say(&[get]).unwrap();
        self.opened()
    }

    fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let (mut fields, text) = (Vec::new(), |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap());
        self.decoder.decode(block, |name, value| fields.push((text(name), text(value)))).unwrap();
        fields
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn idle() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn body(server: &mut Server, key: Key) -> Result<Option<Vec<u8>>, Cut> {
    match server.poll_data(key, &idle()) {
        Poll::Ready(came) => came,
        Poll::Pending => Ok(Some(Vec::new())),
    }
}

fn reason(fault: Result<(), Fault>) -> Option<Reason> {
    fault.err().map(|fault| fault.reason)
}

#[test]
fn we_say_what_we_take_and_acknowledge_what_the_client_does() {
    let mut client = Client::silent();
    let begin = client.read();
    assert_eq!((begin[0].kind, begin[0].payload.len()), (frame::SETTINGS, 4 * 6));
    assert_eq!(
        begin[1],
        Seen { kind: frame::WINDOW_UPDATE, flags: 0, stream: 0, payload: 134_465u32.to_be_bytes().into() }
    );
    client.say(&[PREFACE.to_vec()]).unwrap();
    assert!(!client.server.is_settled());
    client.say(&[raw(frame::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])]).unwrap();
    assert_eq!(client.read(), [Seen { kind: frame::SETTINGS, flags: frame::ACK, stream: 0, payload: Vec::new() }]);
    client.say(&[raw(frame::PING, 0, 0, b"12345678"), raw(0x77, 0, 9, b"unknown")]).unwrap();
    assert_eq!(client.read(), [Seen { kind: frame::PING, flags: frame::ACK, stream: 0, payload: b"12345678".into() }]);
}

#[test]
fn a_request_and_its_answer() {
    let mut client = Client::new();
    let get = client.get(1);
    client.say(&[get]).unwrap();
    let Opened { key, head } = client.server.next_opened().unwrap();
    let pseudo = head.pseudo(false).unwrap();
    assert_eq!((pseudo.method, pseudo.path, pseudo.authority, head.ends()), ("GET", "/", Some("a"), true));
    client.server.give_back(head);
    assert_eq!(body(&mut client.server, key), Ok(None));
    client.server.send_head(key, 103, [(&b"link"[..], &b"</a>"[..])].into_iter(), false).unwrap();
    client.server.send_head(key, 200, [(&b"Server"[..], &b"shop"[..])].into_iter(), false).unwrap();
    assert_eq!(client.server.poll_room(key, 5, &idle()), Poll::Ready(Ok(5)));
    client.server.send_data(key, b"hello", true).unwrap();
    assert!(client.server.send_data(key, b"x", false).is_err(), "it ended");
    client.server.let_go(key);
    let seen = client.read();
    assert_eq!(client.fields(&seen[0].payload), [(":status".into(), "103".into()), ("link".into(), "</a>".into())]);
    assert_eq!(client.fields(&seen[1].payload), [(":status".into(), "200".into()), ("server".into(), "shop".into())]);
    let data = Seen { kind: frame::DATA, flags: frame::END_STREAM, stream: 1, payload: b"hello".into() };
    assert_eq!(seen[2..], [data]);
}

#[test]
fn a_body_comes_with_its_padding_and_trailers() {
    let mut client = Client::new();
    let post = client.post(1, &[]);
    let trailers = client.block(&[("x-sum", "1")]);
    let data = [raw(frame::DATA, frame::PADDED, 1, b"\x02abc\0\0"), raw(frame::DATA, 0, 1, b"de")];
    let end = raw(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, &trailers);
    client.say(&[post, data.concat(), end]).unwrap();
    let key = client.opened();
    assert_eq!(body(&mut client.server, key), Ok(Some(b"abcde".into())));
    assert_eq!(body(&mut client.server, key), Ok(None));
    let trailers = client.server.take_trailers(key).unwrap();
    assert_eq!(trailers.iter().map(|field| field.value.to_vec()).collect::<Vec<_>>(), [b"1"]);
}

#[test]
fn a_window_is_given_back_when_what_came_is_used_up() {
    let mut client = Client::new();
    let post = client.post(1, &[]);
    let data: Vec<_> = (0..6).map(|_| raw(frame::DATA, 0, 1, &[7; 16_000])).collect();
    client.say(&[post, data.concat()]).unwrap();
    let key = client.opened();
    assert_eq!(client.server.kept(), 96_000);
    assert_eq!(body(&mut client.server, key).unwrap().unwrap().len(), 96_000);
    assert_eq!((client.read(), client.server.kept()), (vec![], 96_000));
    client.server.used_up(key, 96_000);
    let updates: Vec<_> = client.read().iter().map(|seen| (seen.stream, seen.payload.clone())).collect();
    assert_eq!(updates, [0, 1].map(|stream| (stream, 96_000u32.to_be_bytes().to_vec())));
    assert_eq!(client.server.kept(), 0);
    // More than the window of a stream is that stream's fault, more than the connection's is the connection's.
    let data: Vec<_> = (0..7).map(|_| raw(frame::DATA, 0, 1, &[7; 16_000])).collect();
    client.say(&data).unwrap();
    assert_eq!(client.read().last().unwrap().payload, 3u32.to_be_bytes());
    let data: Vec<_> = (0..13).map(|_| raw(frame::DATA, 0, 1, &[7; 16_000])).collect();
    assert_eq!(reason(client.say(&data)), None, "of a stream that was reset it is given back at once");
}

#[test]
fn what_is_thrown_away_is_given_back_to_the_connection() {
    let mut client = Client::new();
    for stream in (1..400).step_by(2) {
        let (post, data) = (client.post(stream, &[]), raw(frame::DATA, 0, stream, &[7; 10_000]));
        client.say(&[post, data]).unwrap();
        let key = client.opened();
        client.server.send_head(key, 200, [].into_iter(), true).unwrap();
        client.server.let_go(key);
        let late = raw(frame::DATA, frame::END_STREAM, stream, &[7; 10_000]);
        client.say(&[late]).unwrap();
        let resets: Vec<_> = client.read().into_iter().filter(|seen| seen.kind == frame::RST_STREAM).collect();
        assert_eq!(resets.len(), 1);
        assert_eq!(resets[0].payload, 0u32.to_be_bytes(), "RFC 9113 8.1");
    }
    assert_eq!(client.server.kept(), 0);
}

#[test]
fn who_has_sent_all_but_the_end_is_not_reset() {
    let mut client = Client::new();
    let post = client.post(1, &[("content-length", "5")]);
    client.say(&[post, raw(frame::DATA, 0, 1, b"hello")]).unwrap();
    let key = client.opened();
    client.server.send_head(key, 200, [].into_iter(), true).unwrap();
    client.read();
    client.server.let_go(key);
    assert_eq!(client.read(), []);
    client.say(&[raw(frame::DATA, frame::END_STREAM, 1, b"")]).unwrap();
    assert_eq!(client.read(), []);
}

#[test]
fn the_client_may_send_no_more_than_it_said() {
    for (length, data, ends) in [("5", &b"hello!"[..], true), ("5", b"hell", true), ("0", b"x", false)] {
        let mut client = Client::new();
        let post = client.post(1, &[("content-length", length)]);
        let flags = if ends { frame::END_STREAM } else { 0 };
        client.say(&[post, raw(frame::DATA, flags, 1, data)]).unwrap();
        let key = client.opened();
        assert_eq!(client.server.cut(key), Some(Cut::Malformed));
        let reset = Seen { kind: frame::RST_STREAM, flags: 0, stream: 1, payload: 1u32.to_be_bytes().into() };
        assert_eq!(client.read(), [reset]);
        assert_eq!(client.server.send_head(key, 200, [].into_iter(), true), Err(Cut::Malformed));
    }
}

#[test]
fn bodies_wait_for_the_windows_of_the_client_and_share_them() {
    let mut client = Client::new();
    let (first, second) = (client.asked(1), client.asked(3));
    let woken = [Arc::new(Count::default()), Arc::new(Count::default())];
    let wakers = woken.clone().map(Waker::from);
    let [one, two] = &wakers;
    let (one, two) = (Context::from_waker(one), Context::from_waker(two));
    assert_eq!(client.server.poll_room(first, 100_000, &one), Poll::Ready(Ok(65_535)));
    client.server.send_data(first, &[7; 65_535], false).unwrap();
    assert_eq!(
        client.read().iter().map(|seen| seen.payload.len()).collect::<Vec<_>>(),
        [16_384, 16_384, 16_384, 16_383]
    );
    assert_eq!(client.server.poll_room(first, 1, &one), Poll::Pending);
    assert_eq!(client.server.poll_room(second, 1, &two), Poll::Pending, "the connection's is used up, too");
    client.say(&[raw(frame::PING, 0, 0, &[0; 8])]).unwrap();
    client.read();
    assert_eq!(woken.each_ref().map(|count| count.take()), [0, 1], "only who waits for what all share");
    assert_eq!(client.server.poll_room(second, 1, &two), Poll::Pending);
    client.say(&[number(frame::WINDOW_UPDATE, 1, 10)]).unwrap();
    assert_eq!(woken.each_ref().map(|count| count.take()), [1, 0]);
    assert_eq!(client.server.poll_room(first, 1, &one), Poll::Pending);
    client.say(&[number(frame::WINDOW_UPDATE, 0, 15)]).unwrap();
    assert_eq!(woken.each_ref().map(|count| count.take()), [1, 1]);
    assert_eq!(client.server.poll_room(first, 100, &one), Poll::Ready(Ok(10)));
    assert_eq!(client.server.poll_room(second, 100, &two), Poll::Ready(Ok(15)));
    // It can take back what it said of all streams.
    client.say(&[raw(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])]).unwrap();
    assert_eq!(client.server.poll_room(second, 100, &two), Poll::Pending);
    client.say(&[number(frame::RST_STREAM, 3, 8)]).unwrap();
    assert_eq!(client.server.poll_room(second, 100, &two), Poll::Ready(Err(Cut::Broken)));
}

#[test]
fn bodies_wait_for_a_socket_that_takes_nothing() {
    let mut client = Client::new();
    client
        .say(&[number(frame::WINDOW_UPDATE, 0, 1 << 30), raw(frame::SETTINGS, 0, 0, &[0, 4, 0x40, 0, 0, 0])])
        .unwrap();
    let key = client.asked(1);
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = Context::from_waker(&waker);
    let mut sent = 0;
    while let Poll::Ready(room) = client.server.poll_room(key, 50_000, &cx) {
        client.server.send_data(key, &vec![7; room.unwrap()], false).unwrap();
        sent += 1;
    }
    assert!((2..6).contains(&sent), "{sent}");
    let kept = client.server.kept();
    client.server.wrote(1000);
    assert_eq!((client.server.kept(), woken.take()), (kept - 1000, 0));
    client.server.wrote(40_000);
    assert_eq!((client.server.kept(), client.server.output().len()), (kept - 41_000, kept - 41_000));
    client.server.wrote(kept - 41_000);
    assert_eq!((client.server.kept(), woken.take()), (0, 1));
    assert!(client.server.poll_room(key, 50_000, &cx).is_ready());
}

#[test]
fn a_long_head_goes_in_pieces() {
    let mut client = Client::new();
    let key = client.asked(1);
    let value = vec![b'\x7f' - 1; 40_000];
    client.server.send_head(key, 200, [(&b"x-long"[..], &value[..])].into_iter(), true).unwrap();
    let seen = client.read();
    assert!(seen.iter().all(|seen| seen.payload.len() <= frame::LARGEST));
    assert_eq!((seen[0].kind, seen[0].flags), (frame::HEADERS, frame::END_STREAM));
    assert!(seen[1..].iter().all(|seen| seen.kind == frame::CONTINUATION));
    assert_eq!(seen.last().unwrap().flags, frame::END_HEADERS);
    let block: Vec<u8> = seen.iter().flat_map(|seen| seen.payload.clone()).collect();
    assert_eq!(client.fields(&block)[1].1.len(), 40_000);
}

#[test]
fn a_head_comes_in_pieces() {
    let mut client = Client::new();
    let get = client.get(1);
    let (block, flags) = (&get[9..], frame::END_STREAM);
    client.say(&[raw(frame::HEADERS, flags, 1, &block[..3])]).unwrap();
    assert!(client.server.is_in_head());
    client.say(&[raw(frame::CONTINUATION, 0, 1, &block[3..4])]).unwrap();
    client.say(&[raw(frame::CONTINUATION, frame::END_HEADERS, 1, &block[4..])]).unwrap();
    assert!(!client.server.is_in_head());
    assert!(client.server.next_opened().unwrap().head.pseudo(false).is_ok());
    client.say(&[raw(frame::HEADERS, 0, 3, &[])]).unwrap();
    assert_eq!(reason(client.say(&[raw(frame::PING, 0, 0, &[0; 8])])), Some(Reason::PROTOCOL_ERROR));
}

#[test]
fn a_head_that_is_too_large_is_told_as_that() {
    let mut client = Client::new();
    let large = "x".repeat(8000);
    let post = client.post(1, &[("x", &large), ("x", "y")]);
    client.say(&[post]).unwrap();
    let head = client.server.next_opened().unwrap().head;
    assert_eq!((head.pseudo(false).err(), head.asks_for_head()), (Some(Kind::HeadTooLarge), false));
    // What it put into the table is there nevertheless.
    let get = client.get(3);
    client.say(&[get]).unwrap();
    assert!(client.server.next_opened().unwrap().head.pseudo(false).is_ok());
}

#[test]
fn a_client_has_so_many_streams_and_as_many_that_nobody_has_let_go() {
    let mut client = Client::new();
    let keys: Vec<_> = (0..4).map(|number| client.asked(2 * number + 1)).collect();
    let refused = |seen: Vec<Seen>| seen.iter().any(|seen| seen.payload == 7u32.to_be_bytes());
    let get = client.get(9);
    client.say(&[get]).unwrap();
    assert!(client.server.next_opened().is_none() && refused(client.read()));
    for number in [1, 3, 5, 7] {
        client.say(&[super::tests::number(frame::RST_STREAM, number, 8)]).unwrap();
    }
    for number in [11, 13, 15, 17] {
        client.asked(number);
    }
    for number in [11, 13, 15, 17] {
        client.say(&[super::tests::number(frame::RST_STREAM, number, 8)]).unwrap();
    }
    let get = client.get(19);
    client.say(&[get]).unwrap();
    assert!(client.server.next_opened().is_none() && refused(client.read()));
    keys.into_iter().for_each(|key| client.server.let_go(key));
    client.asked(21);
}

#[test]
fn what_ends_the_connection() {
    let get = Client::new().get(1);
    let cases: [(Reason, Vec<u8>); 22] = [
        (Reason::PROTOCOL_ERROR, raw(frame::DATA, 0, 1, b"x")),
        (Reason::PROTOCOL_ERROR, raw(frame::DATA, 0, 0, b"x")),
        (Reason::PROTOCOL_ERROR, raw(frame::PUSH_PROMISE, 0, 1, &[0; 8])),
        (Reason::PROTOCOL_ERROR, raw(frame::CONTINUATION, 4, 1, &[])),
        (Reason::PROTOCOL_ERROR, raw(frame::HEADERS, 5, 2, &get[9..])),
        (Reason::PROTOCOL_ERROR, raw(frame::HEADERS, 5, 0, &get[9..])),
        (Reason::PROTOCOL_ERROR, raw(frame::HEADERS, 5 | frame::PADDED, 1, &[9, 0x82])),
        (Reason::PROTOCOL_ERROR, raw(frame::HEADERS, 5 | frame::PRIORITIZED, 1, &[0, 0, 0, 1, 0, 0x82])),
        (Reason::PROTOCOL_ERROR, number(frame::RST_STREAM, 1, 8)),
        (Reason::PROTOCOL_ERROR, number(frame::RST_STREAM, 0, 8)),
        (Reason::PROTOCOL_ERROR, number(frame::WINDOW_UPDATE, 1, 8)),
        (Reason::PROTOCOL_ERROR, number(frame::WINDOW_UPDATE, 0, 0)),
        (Reason::FLOW_CONTROL_ERROR, number(frame::WINDOW_UPDATE, 0, (1 << 31) - 1)),
        (Reason::FRAME_SIZE_ERROR, raw(frame::PING, 0, 0, &[0; 7])),
        (Reason::FRAME_SIZE_ERROR, raw(frame::SETTINGS, 0, 0, &[0; 5])),
        (Reason::FRAME_SIZE_ERROR, raw(frame::HEADERS, 5 | frame::PRIORITIZED, 1, &[0; 4])),
        (Reason::FRAME_SIZE_ERROR, raw(frame::DATA, frame::PADDED, 1, &[])),
        (Reason::FLOW_CONTROL_ERROR, raw(frame::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        (Reason::PROTOCOL_ERROR, raw(frame::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])),
        (Reason::PROTOCOL_ERROR, raw(frame::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        (Reason::COMPRESSION_ERROR, raw(frame::HEADERS, 5, 1, &[0x80])),
        // A field without a name.
        (Reason::PROTOCOL_ERROR, raw(frame::HEADERS, 5, 1, &[0, 0, 0])),
    ];
    for (wanted, frame) in cases {
        assert_eq!(reason(Client::new().say(std::slice::from_ref(&frame))), Some(wanted), "{frame:?}");
    }
    assert_eq!(reason(Client::silent().say(&[b"GET / HTTP/1.1\r\n".to_vec()])), Some(Reason::PROTOCOL_ERROR));
    let mut client = Client::silent();
    assert_eq!(reason(client.say(&[PREFACE.to_vec(), get])), Some(Reason::PROTOCOL_ERROR), "SETTINGS come first");
}

#[test]
fn nothing_comes_behind_the_end() {
    let mut client = Client::new();
    let key = client.asked(1);
    let again = client.get(1);
    assert_eq!(reason(client.say(&[raw(frame::DATA, 0, 1, b"x")])), Some(Reason::STREAM_CLOSED));
    let mut client = Client::new();
    client.asked(1);
    assert_eq!(reason(client.say(&[again])), Some(Reason::STREAM_CLOSED));
    let mut client = Client::new();
    client.asked(1);
    client.server.send_head(key, 200, [].into_iter(), true).unwrap();
    client.server.let_go(key);
    client.say(&[number(frame::WINDOW_UPDATE, 1, 9), number(frame::RST_STREAM, 1, 8)]).unwrap();
    assert_eq!(reason(client.say(&[raw(frame::DATA, 0, 1, b"x")])), Some(Reason::STREAM_CLOSED));
}

#[test]
fn what_the_client_makes_us_reset_has_a_budget() {
    let mut client = Client::new();
    let mut outcome = Ok(());
    for stream in (1..2000).step_by(2) {
        let post = client.post(stream, &[]);
        outcome = client.say(&[post, number(frame::WINDOW_UPDATE, stream, 0)]);
        if outcome.is_err() {
            break;
        }
        let key = client.opened();
        assert_eq!(client.server.cut(key), Some(Cut::Malformed));
        client.server.let_go(key);
    }
    assert_eq!(outcome, Err(Fault { reason: Reason::ENHANCE_YOUR_CALM, kind: Kind::FrameFlood }));
}

#[test]
fn a_client_that_is_told_to_go_is_served_until_it_knows() {
    let mut client = Client::new();
    let first = client.asked(1);
    client.server.leave();
    let seen = client.read();
    assert_eq!((seen[0].kind, seen[1].kind), (frame::GOAWAY, frame::PING));
    let second = client.asked(3);
    client.say(&[raw(frame::PING, frame::ACK, 0, &seen[1].payload)]).unwrap();
    assert_eq!(client.read()[0].payload[..4], 3u32.to_be_bytes());
    let get = client.get(5);
    client.say(&[get]).unwrap();
    assert!(client.server.next_opened().is_none() && !client.server.is_over());
    for key in [first, second] {
        client.server.send_head(key, 200, [].into_iter(), true).unwrap();
        client.server.let_go(key);
    }
    assert!(!client.server.is_over(), "the answers are still to go");
    client.read();
    assert!(client.server.is_over());
}

#[test]
fn an_end_is_said_and_takes_everything_with_it() {
    let mut client = Client::new();
    let key = client.asked(1);
    client.server.abort(Reason::ENHANCE_YOUR_CALM);
    assert_eq!(client.server.cut(key), Some(Cut::Broken));
    assert_eq!(client.read()[0].payload, [0, 0, 0, 1, 0, 0, 0, 11]);
    let get = client.get(3);
    client.say(&[get]).unwrap();
    assert!(client.server.is_over() && client.server.is_full() && client.server.next_opened().is_none());
    client.server.let_go(key);
}

#[test]
fn a_key_is_of_its_stream_alone() {
    let mut client = Client::new();
    let first = client.asked(1);
    client.server.send_head(first, 200, [].into_iter(), true).unwrap();
    client.server.let_go(first);
    let second = client.asked(3);
    client.read();
    client.server.reset(first, Reason::CANCEL);
    client.server.let_go(first);
    assert_eq!((client.server.cut(first), client.server.cut(second)), (Some(Cut::Broken), None));
    assert_eq!(client.read(), []);
}

proptest! {
    /// However the bytes come, the same streams begin, and the same is answered.
    #[test]
    fn every_split_is_the_same(
        frames in prop::collection::vec((0u8..11, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        cut in 1usize..30,
    ) {
        let mut bytes = [PREFACE.to_vec(), raw(frame::SETTINGS, 0, 0, &[])].concat();
        let mut client = Client::new();
        for (kind, flags, stream, payload) in frames {
            match kind {
                10 => bytes.extend(client.post(2 * stream + 1, &[])),
                _ => bytes.extend(raw(kind, flags, stream, &payload)),
            }
        }
        let run = |pieces: &[&[u8]]| {
            let (mut server, mut outcome) = (Server::new(LIMITS), Ok(()));
            for piece in pieces {
                outcome = server.take(piece, NOW);
                if outcome.is_err() {
                    break;
                }
            }
            let opened: Vec<_> = std::iter::from_fn(|| server.next_opened()).map(|opened| opened.key).collect();
            let bodies: Vec<_> = opened.iter().map(|key| body(&mut server, *key)).collect();
            (outcome, opened, bodies, server.output().to_vec())
        };
        let whole = run(&[&bytes]);
        prop_assert_eq!(&run(&bytes.chunks(cut).collect::<Vec<_>>()), &whole);
        prop_assert_eq!(&run(&bytes.chunks(1).collect::<Vec<_>>()), &whole);
    }
}
