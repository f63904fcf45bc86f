//! The origin behind every peer: HTTP/1.1 with keep-alive on one thread, as cheap as it can be made, since it shares the
//! client's core. `origin LISTEN`.
//!
//! | request | answer |
//! |---|---|
//! | any without a body | the fixed body of 128 bytes |
//! | `/large/N` | N bytes of a known pattern |
//! | any path that ends in `/echo` | the request head as it came |
//! | `/count` | the requests answered so far |
//! | any with a body | `received N`, once all of it was read |
//! | `/stall/MS` with a body | the same, but the body is left unread for MS milliseconds |

use penstock_bench::argument;
use penstock_bench::http::{Body, Head, read_head};
use std::cell::Cell;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

const BODY_LENGTH: usize = 128;
/// One write of a large body; the pattern repeats at this length.
const BLOCK: usize = 256 * 1024;
/// Byte `i` of a large body is `i % BLOCK % PATTERN`: a prime, so that shifted or repeated pieces show.
const PATTERN: usize = 251;
/// Bytes of a request head, or of a body at once.
const BUFFER: usize = 64 * 1024;
/// A client that goes silent does not hold its connection for longer.
const IDLE: Duration = Duration::from_secs(600);

fn main() -> Result<()> {
    let listen: SocketAddr = argument(1, "the address to listen on")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(listen))
}

/// What all connections share: the answers, made once, and the count.
struct Shared {
    small: Vec<u8>,
    /// The same, for a client that wants the connection closed.
    last: Vec<u8>,
    block: Vec<u8>,
    answered: Cell<u64>,
}

async fn serve(listen: SocketAddr) -> Result<()> {
    let shared = Rc::new(Shared {
        small: answer(&[b'x'; BODY_LENGTH], ""),
        last: answer(&[b'x'; BODY_LENGTH], "Connection: close\r\n"),
        block: (0..BLOCK).map(|place| (place % PATTERN) as u8).collect(),
        answered: Cell::new(0),
    });
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let connection = Connection { socket, buffer: Vec::with_capacity(1024), shared: shared.clone() };
        tokio::task::spawn_local(async move { connection.serve().await.unwrap_or_default() });
    }
}

fn answer(body: &[u8], extra: &str) -> Vec<u8> {
    let mut bytes = head_of(body.len() as u64, extra).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn head_of(length: u64, extra: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n{extra}\r\n"
    )
}

struct Connection {
    socket: TcpStream,
    /// What was read and not yet used.
    buffer: Vec<u8>,
    shared: Rc<Shared>,
}

impl Connection {
    async fn serve(mut self) -> Result<()> {
        while let Some(head) = self.next_head().await? {
            // The path of nearly every request: no copy, no allocation, one write.
            let first_line = self.buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let target = first_line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            let plain = head.body == Body::Length(0) && !is_special(target);
            if plain {
                self.buffer.drain(..head.length);
                let answer = if head.close { &self.shared.last } else { &self.shared.small };
                self.socket.write_all(answer).await?;
            } else {
                let target = String::from_utf8_lossy(target).into_owned();
                let request: Vec<u8> = self.buffer.drain(..head.length).collect();
                self.answer_special(&target, head, &request).await?;
            }
            self.shared.answered.set(self.shared.answered.get() + 1);
            if head.close {
                break;
            }
        }
        self.socket.shutdown().await
    }

    /// The next request's head, left at the start of the buffer; nothing when the client is done.
    async fn next_head(&mut self) -> Result<Option<Head>> {
        loop {
            if let Some(head) = read_head(&self.buffer) {
                return Ok(Some(head));
            }
            if self.buffer.len() > BUFFER {
                return Err(Error::new(ErrorKind::InvalidData, "head too large"));
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn answer_special(&mut self, target: &str, head: Head, request: &[u8]) -> Result<()> {
        if head.body != Body::Length(0) {
            if let Some(wait) = number_after(target, "/stall/") {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            let received = tokio::time::timeout(IDLE, self.discard(head.body)).await??;
            return self.socket.write_all(&answer(format!("received {received}\n").as_bytes(), "")).await;
        }
        if let Some(length) = number_after(target, "/large/") {
            return self.write_large(length).await;
        }
        if target.ends_with("/echo") {
            return self.socket.write_all(&answer(request, "")).await;
        }
        self.socket.write_all(&answer(self.shared.answered.get().to_string().as_bytes(), "")).await
    }

    async fn write_large(&mut self, length: u64) -> Result<()> {
        self.socket.write_all(head_of(length, "").as_bytes()).await?;
        let mut left = length;
        while left > 0 {
            let part = left.min(BLOCK as u64) as usize;
            self.socket.write_all(&self.shared.block[..part]).await?;
            left -= part as u64;
        }
        Ok(())
    }

    /// Reads a body to its end and returns its length.
    async fn discard(&mut self, body: Body) -> Result<u64> {
        match body {
            Body::Length(length) => {
                self.skip(length).await?;
                Ok(length)
            }
            Body::Chunked => {
                let mut received = 0;
                loop {
                    let size = self.chunk_size().await?;
                    // The empty line after a chunk, or after the last one (the bench sends no trailers).
                    self.skip(size + 2).await?;
                    received += size;
                    if size == 0 {
                        return Ok(received);
                    }
                }
            }
        }
    }

    async fn chunk_size(&mut self) -> Result<u64> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
                let size = std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
                return size.ok_or_else(|| Error::new(ErrorKind::InvalidData, "bad chunk size"));
            }
            self.read_more().await?;
        }
    }

    async fn skip(&mut self, mut left: u64) -> Result<()> {
        loop {
            let part = left.min(self.buffer.len() as u64);
            self.buffer.drain(..part as usize);
            left -= part;
            if left == 0 {
                return Ok(());
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<()> {
        self.buffer.reserve(BUFFER);
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn is_special(target: &[u8]) -> bool {
    target == b"/count" || target.starts_with(b"/large/") || target.ends_with(b"/echo")
}

fn number_after(target: &str, prefix: &str) -> Option<u64> {
    target.strip_prefix(prefix)?.parse().ok()
}
