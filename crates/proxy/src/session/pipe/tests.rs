use super::*;
use crate::buffers::SMALL;
use crate::clear::ClearStream;
use std::future::poll_fn;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn what_a_session_begins_with_is_lent_until_it_is_let_go() {
    let (buffers, pipes) = (Buffers::new(), SystemPipes::default());
    let other = buffers.small();
    let mut pipe = Pipe::beginning_with(b"hello", &buffers);
    assert_eq!(buffers.lent(), SMALL as u64 + 5);
    pipe.let_go((&buffers, &pipes));
    assert_eq!(buffers.lent(), SMALL as u64);
    Pipe::beginning_with(b"", &buffers).let_go((&buffers, &pipes));
    assert_eq!(buffers.lent(), SMALL as u64);
    buffers.give_back(other);
    assert_eq!(buffers.lent(), 0);
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (connected, listener.accept().await.unwrap().0)
}

/// Bytes whose place can be told from them.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// What one direction makes of these messages, the first of them said before it began; and whether something was spliced meanwhile.
fn relayed(messages: Vec<Vec<u8>>, pipes: Rc<SystemPipes>) -> (Vec<u8>, u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let ((mut source, from), (to, mut receiver)) = (pair().await, pair().await);
        let buffers = Buffers::new();
        let lenders = Rc::clone(&pipes);
        let relay = tokio::task::spawn_local(async move {
            let (mut from, mut to) = (Stream::Clear(ClearStream::Tcp(from)), Stream::Clear(ClearStream::Tcp(to)));
            let mut pipe = Pipe::default();
            poll_fn(|cx| pipe.poll(cx, (&buffers, &lenders), &mut from, &mut to)).await.unwrap();
            assert_eq!(buffers.lent(), 0);
            pipe.moved
        });
        let writer = tokio::task::spawn_local(async move {
            for message in messages {
                source.write_all(&message).await.unwrap();
                tokio::task::yield_now().await;
            }
            source.shutdown().await.unwrap();
            source
        });
        let mut got = Vec::new();
        receiver.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        let most = pipes.open();
        (got, relay.await.unwrap(), most)
    })
}

#[test]
fn bulk_and_messages_take_turns_and_every_byte_arrives() {
    let all = bytes(24 << 20);
    let mut rest = &all[..];
    let mut messages = Vec::new();
    for round in 0..40 {
        let lengths = if round % 3 == 2 { vec![1, 700, 1, 15_000] } else { vec![300_000, 500_000] };
        for length in lengths {
            let (message, behind) = rest.split_at(length.min(rest.len()));
            messages.push(message.to_vec());
            rest = behind;
        }
    }
    messages.push(rest.to_vec());
    let pipes = Rc::new(SystemPipes::default());
    pipes.allow(4);
    let (got, moved, open) = relayed(messages.clone(), pipes);
    assert!(got == all, "{} of {} bytes", got.len(), all.len());
    assert_eq!((moved, open), (all.len() as u64, 1), "one pipe was enough, and it is kept");
    // Where there are no pipes it goes as well.
    let (got, moved, open) = relayed(messages, Rc::default());
    assert!(got == all, "{} of {} bytes", got.len(), all.len());
    assert_eq!((moved, open), (all.len() as u64, 0));
}

#[test]
fn messages_need_no_pipe() {
    let pipes = Rc::new(SystemPipes::default());
    pipes.allow(4);
    let (got, moved, open) = relayed(vec![bytes(900); 50], pipes);
    assert_eq!((got.len(), moved, open), (45_000, 45_000, 0));
}

#[test]
fn a_receiver_that_takes_nothing_holds_up_the_source_and_what_is_in_the_pipe_goes_with_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ((source, from), (to, receiver)) = (pair().await, pair().await);
        let (buffers, pipes) = (Buffers::new(), SystemPipes::default());
        pipes.allow(4);
        let (mut from, mut to) = (Stream::Clear(ClearStream::Tcp(from)), Stream::Clear(ClearStream::Tcp(to)));
        let mut pipe = Pipe::default();
        let piece = bytes(1 << 20);
        let (mut written, mut still) = (0, 0);
        // Until nothing moves any more.
        while still < 100 {
            let before = pipe.moved;
            let polled = poll_fn(|cx| Poll::Ready(pipe.poll(cx, (&buffers, &pipes), &mut from, &mut to))).await;
            assert!(polled.is_pending());
            let more = source.try_write(&piece).unwrap_or(0);
            written += more as u64;
            still = if more == 0 && pipe.moved == before { still + 1 } else { 0 };
            tokio::task::yield_now().await;
        }
        assert!(pipe.spliced.is_some() && pipe.moved < written);
        assert_eq!(pipes.open(), 1);
        drop(receiver);
        let broken = poll_fn(|cx| pipe.poll(cx, (&buffers, &pipes), &mut from, &mut to)).await;
        assert_eq!(broken, Err(Broken::Receiver));
        pipe.let_go((&buffers, &pipes));
        assert_eq!((pipes.open(), buffers.lent()), (0, 0), "what was not delivered is in nobody's pipe");
    });
}
