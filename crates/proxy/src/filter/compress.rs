//! A body put into a content coding on its way.

use crate::codec::{Chunk, Incoming};
use brotli::CompressorWriter;
use flate2::write::GzEncoder;
use penstock_plan::Coding;
use penstock_rules::error::Kind;
use penstock_rules::http::Fields;
use std::io::{self, Write};
use std::task::{Context, Poll};

/// Most bytes that are coded in one go: between two of them the receiver may say that it is full.
const PIECE: usize = 16 * 1024;
/// Levels at which a response costs little more to code than to fetch.
const GZIP_LEVEL: u32 = 5;
const BROTLI_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// Windows of 256 KB (as powers of two) bound the memory of one response.
const WINDOW: u32 = 18;

/// The coder of one body, and what it has made and nobody has taken yet.
pub(crate) struct Coder {
    coder: Option<Writer>,
    ready: Vec<u8>,
    taken: usize,
    /// The coder holds back bytes of what it was given.
    holds: bool,
    made: u64,
}

enum Writer {
    Gzip(GzEncoder<Vec<u8>>),
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Coder {
    /// A coder for a new body; `None` where it cannot be made (no memory).
    pub(crate) fn new(coding: Coding) -> Option<Coder> {
        let coder = match coding {
            Coding::Gzip => Writer::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Coding::Br => Writer::Br(Box::new(CompressorWriter::new(Vec::new(), PIECE, BROTLI_LEVEL, WINDOW))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                encoder.window_log(WINDOW).ok()?;
                Writer::Zstd(encoder)
            }
        };
        Some(Coder { coder: Some(coder), ready: Vec::new(), taken: 0, holds: false, made: 0 })
    }

    /// Bytes that a coder takes for itself while it works, about and rather too much.
    pub(crate) fn memory(coding: Coding) -> usize {
        match coding {
            Coding::Gzip => 512 << 10,
            Coding::Br | Coding::Zstd => 2 << 20,
        }
    }

    /// Code a whole body; `None` where there is no memory.
    pub(crate) fn whole(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        self.code(body).ok()?;
        self.end().ok()?;
        Some(std::mem::take(&mut self.ready))
    }

    /// The body of `source` as this coder makes it.
    pub(crate) fn over<'a, S: Incoming>(&'a mut self, source: &'a mut S) -> Coded<'a, S> {
        Coded { source, coder: self }
    }

    fn waiting(&self) -> &[u8] {
        self.ready.get(self.taken..).unwrap_or_default()
    }

    fn code(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(coder) = &mut self.coder else { return Ok(()) };
        coder.write_all(bytes)?;
        self.holds = true;
        self.collect();
        Ok(())
    }

    /// Give out what is held back: whoever waits for it must not wait for more (server-sent events).
    fn flush(&mut self) -> io::Result<()> {
        let Some(coder) = &mut self.coder else { return Ok(()) };
        coder.flush()?;
        self.holds = false;
        self.collect();
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(coder) = self.coder.take() else { return Ok(()) };
        let rest = match coder {
            Writer::Gzip(encoder) => encoder.finish()?,
            Writer::Br(encoder) => encoder.into_inner(),
            Writer::Zstd(encoder) => encoder.finish()?,
        };
        self.holds = false;
        self.append(rest);
        Ok(())
    }

    fn collect(&mut self) {
        let made = match &mut self.coder {
            Some(Writer::Gzip(encoder)) => std::mem::take(encoder.get_mut()),
            Some(Writer::Br(encoder)) => std::mem::take(encoder.get_mut()),
            Some(Writer::Zstd(encoder)) => std::mem::take(encoder.get_mut()),
            None => return,
        };
        self.append(made);
    }

    fn append(&mut self, made: Vec<u8>) {
        self.made += made.len() as u64;
        if self.waiting().is_empty() {
            (self.ready, self.taken) = (made, 0);
        } else {
            self.ready.extend_from_slice(&made);
        }
    }
}

impl Writer {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Writer::Gzip(encoder) => encoder.write_all(bytes),
            Writer::Br(encoder) => encoder.write_all(bytes),
            Writer::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Writer::Gzip(encoder) => encoder.flush(),
            Writer::Br(encoder) => encoder.flush(),
            Writer::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// A body as it comes in, coded.
pub(crate) struct Coded<'a, S> {
    source: &'a mut S,
    coder: &'a mut Coder,
}

impl<S: Incoming> Incoming for Coded<'_, S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        // The coders write to memory: that fails only where there is none.
        let failed = |_: io::Error| Kind::Exhausted;
        loop {
            if !self.coder.waiting().is_empty() {
                return Poll::Ready(Ok(Chunk::Bytes));
            }
            if self.coder.coder.is_none() {
                return Poll::Ready(Ok(Chunk::End));
            }
            match self.source.poll_chunk(cx)? {
                Poll::Ready(Chunk::Bytes) => {
                    let chunk = self.source.chunk();
                    let piece = chunk.get(..chunk.len().min(PIECE)).unwrap_or_default();
                    self.coder.code(piece).map_err(failed)?;
                    let count = piece.len();
                    self.source.consume(count);
                }
                Poll::Ready(Chunk::End) => self.coder.end().map_err(failed)?,
                Poll::Pending if self.coder.holds => self.coder.flush().map_err(failed)?,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn chunk(&self) -> &[u8] {
        self.coder.waiting()
    }

    fn consume(&mut self, count: usize) {
        self.coder.taken = (self.coder.taken + count).min(self.coder.ready.len());
    }

    fn trailers(&self) -> Option<Fields> {
        self.source.trailers()
    }

    fn is_ended(&self) -> bool {
        self.source.is_ended() && self.coder.coder.is_none() && self.coder.waiting().is_empty()
    }

    fn received(&self) -> u64 {
        self.coder.made
    }

    fn excuse(&mut self, ticks: u64) {
        self.source.excuse(ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A body that comes in pieces, with pauses between them.
    struct Pieces {
        pieces: Vec<Vec<u8>>,
        /// How often the reader is told to wait before the next comes.
        pauses: u8,
    }

    impl Incoming for Pieces {
        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
            if self.pieces.is_empty() {
                return Poll::Ready(Ok(Chunk::End));
            }
            if self.pauses > 0 {
                self.pauses -= 1;
                return Poll::Pending;
            }
            Poll::Ready(Ok(Chunk::Bytes))
        }

        fn chunk(&self) -> &[u8] {
            self.pieces.first().map_or(&[], Vec::as_slice)
        }

        fn consume(&mut self, count: usize) {
            self.pieces[0].drain(..count);
            self.pauses = 2;
            if self.pieces[0].is_empty() {
                self.pieces.remove(0);
            }
        }

        fn trailers(&self) -> Option<Fields> {
            None
        }

        fn is_ended(&self) -> bool {
            self.pieces.is_empty()
        }

        fn received(&self) -> u64 {
            0
        }

        fn excuse(&mut self, _: u64) {}
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        // A body that was flushed and not ended can be read up to there.
        let _ = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
            Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut plain),
        };
        plain
    }

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

    #[test]
    fn a_body_comes_back_whole() {
        let body: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for coding in ALL {
            let mut source = Pieces { pieces: body.chunks(70_000).map(<[u8]>::to_vec).collect(), pauses: 0 };
            let (mut coder, mut made) = (Coder::new(coding).unwrap(), Vec::new());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            loop {
                let mut coded = coder.over(&mut source);
                match coded.poll_chunk(&mut cx) {
                    Poll::Ready(Ok(Chunk::Bytes)) => {
                        let some = coded.chunk().len().div_ceil(2);
                        made.extend_from_slice(&coded.chunk()[..some]);
                        coded.consume(some);
                    }
                    Poll::Ready(Ok(Chunk::End)) => break,
                    Poll::Ready(Err(kind)) => panic!("{coding:?}: {kind:?}"),
                    Poll::Pending => {}
                }
            }
            assert!(made.len() < body.len(), "{coding:?}");
            assert_eq!(decoded(coding, &made), body, "{coding:?}");
            assert_eq!(decoded(coding, &Coder::new(coding).unwrap().whole(&body).unwrap()), body, "{coding:?}");
        }
    }

    #[test]
    fn nothing_is_held_back_while_the_source_pauses() {
        for coding in ALL {
            let mut source = Pieces { pieces: vec![b"data: one\n\n".to_vec(), b"data: two\n\n".to_vec()], pauses: 0 };
            let mut coder = Coder::new(coding).unwrap();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let (mut coded, mut made) = (coder.over(&mut source), Vec::new());
            while coded.poll_chunk(&mut cx) == Poll::Ready(Ok(Chunk::Bytes)) {
                made.extend_from_slice(coded.chunk());
                coded.consume(made.len());
            }
            assert_eq!(decoded(coding, &made), b"data: one\n\n", "{coding:?}");
            assert_eq!(source.pieces.len(), 1);
        }
    }
}
