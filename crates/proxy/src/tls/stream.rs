//! A stream whose bytes are sealed (TLS) on their way to and from a socket, or whatever else carries them.
//!
//! Records are opened in the buffer that they were read into and sealed into the one that they are written from. Both are given back
//! when they are empty: an idle connection keeps its keys and nothing else.

use super::carrier::Carrier;
use super::session::{Output, Session, Step, Task};
use crate::buffers::{Buffers, LARGE, Loan, SMALL, has_room};
use crate::clear::ClearStream;
use rustls::CommonState;
use rustls::client::ClientConfig;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Type, version and length (RFC 8446 §5.1).
const RECORD_HEAD: usize = 5;
/// Bytes of content that a record can have.
const RECORD: usize = 16 * 1024;
/// With so much sealed and not yet written, nothing further is sealed.
const SEALED: usize = 64 * 1024;
/// A larger buffer is given back to the system once it was written.
const SEALED_KEPT: usize = 20 * 1024;

/// What carries the bytes, and the keys for them.
pub(crate) struct TlsStream {
    io: Carrier,
    session: Session,
    /// As it came from the carrier; `[start..end]` is not yet opened.
    input: Loan,
    start: usize,
    end: usize,
    /// Opened, and not yet taken by who reads; `[taken..]` is still there.
    opened: Vec<u8>,
    taken: usize,
    /// Sealed; `[written..]` is still to go.
    out: Vec<u8>,
    written: usize,
    course: Course,
    /// The peer was told that nothing more comes.
    farewell: bool,
    /// Why the session is of no use any more.
    failure: Option<Box<str>>,
}

/// What the peer has said of its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Open,
    /// `close_notify`: everything was read.
    Ended,
    /// Nothing further can be said to it.
    Broken,
}

// What streams in clear share their callers with is not inlined there: they are to cost no more for it.
impl TlsStream {
    pub(super) fn new(io: Carrier, session: Session, buffers: Rc<Buffers>) -> TlsStream {
        TlsStream {
            io,
            session,
            input: Loan::new(buffers),
            start: 0,
            end: 0,
            opened: Vec::new(),
            taken: 0,
            out: Vec::new(),
            written: 0,
            course: Course::Open,
            farewell: false,
            failure: None,
        }
    }

    pub(crate) fn agreed(&self) -> &CommonState {
        self.session.agreed()
    }

    /// Whether this is what an endpoint was asked for.
    pub(crate) fn is_of(&self, config: &Arc<ClientConfig>) -> bool {
        matches!(&self.session, Session::Client(_, asked) if Arc::ptr_eq(asked, config))
    }

    pub(super) fn into_carrier(mut self) -> Carrier {
        self.course = Course::Broken;
        mem::replace(&mut self.io, ClearStream::Fresh(None).into())
    }

    /// The socket below all; `None` where that is others', too.
    pub(crate) fn socket(&self) -> Option<&ClearStream> {
        self.io.socket()
    }

    pub(crate) fn join(&mut self) -> io::Result<()> {
        self.io.join()
    }

    /// Begin with what was read already, before anything else is: a small buffer's worth at most.
    pub(super) fn begin_with(&mut self, said: &[u8]) {
        let mut buffer = self.input.home().small();
        let count = said.len().min(buffer.len());
        if let (Some(room), Some(said)) = (buffer.get_mut(..count), said.get(..count)) {
            room.copy_from_slice(said);
        }
        (self.start, self.end) = (0, count);
        self.input.buffer = Some(buffer);
    }

    /// Let another session be the stream's. Nothing of what came was opened yet.
    pub(super) fn begin_as(&mut self, session: Session) {
        self.session = session;
    }

    /// What came and is not yet opened.
    pub(super) fn sealed_input(&self) -> &[u8] {
        self.input.buffer.as_deref().and_then(|input| input.get(self.start..self.end)).unwrap_or_default()
    }

    /// Go on with the handshake as far as what came allows; whether it is over. On an error the alert for it is to be flushed.
    pub(super) fn shake_hands(&mut self) -> Result<bool, rustls::Error> {
        loop {
            match self.step(&Task::Open)? {
                Step::On | Step::Opened | Step::Ended => {}
                Step::Ready | Step::Blocked => return Ok(!self.session.agreed().is_handshaking()),
            }
        }
    }

    /// Read more of what is sealed; 0 is the end.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, bulk: bool) -> Poll<io::Result<usize>> {
        if self.input.buffer.is_none() {
            // Waiting needs no buffer; a fresh socket is not known to have to be waited for.
            if !self.io.is_fresh() {
                ready!(self.io.poll_readable(cx))?;
            }
            let home = self.input.home();
            self.input.buffer = Some(if bulk { home.bulk() } else { home.small() });
        }
        self.make_room()?;
        let room = self.input.buffer.as_deref_mut().and_then(|input| input.get_mut(self.end..)).unwrap_or_default();
        let poll = self.io.poll_read(cx, room);
        if let Poll::Ready(Ok(count)) = poll {
            self.end += count;
        }
        if self.start == self.end {
            self.consume(0);
        }
        poll
    }

    fn make_room(&mut self) -> io::Result<()> {
        let Some(input) = self.input.buffer.as_deref_mut() else { return Ok(()) };
        if has_room(input, &mut self.start, &mut self.end) {
            return Ok(());
        }
        let length = input.len();
        if length >= LARGE {
            // No record and no message of a handshake that is taken in is so long.
            return Err(ErrorKind::InvalidData.into());
        }
        let mut larger = if length < SMALL { self.input.home().small() } else { self.input.home().large() };
        if let (Some(room), Some(old)) = (larger.get_mut(..length), self.input.buffer.as_deref()) {
            room.copy_from_slice(old);
        }
        self.input.end();
        self.input.buffer = Some(larger);
        Ok(())
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.input.end();
        }
    }

    /// One step of the session. It is always shown all that came: it remembers where in it a message goes on.
    fn step(&mut self, task: &Task<'_>) -> Result<Step, rustls::Error> {
        let input = self.input.buffer.as_deref_mut().and_then(|input| input.get_mut(self.start..self.end));
        let output = Output { opened: &mut self.opened, sealed: &mut self.out };
        let (used, step) = self.session.step(input.unwrap_or_default(), task, output);
        self.consume(used);
        match step {
            Ok(Step::Ended) => {
                let before = mem::replace(&mut self.course, Course::Ended);
                Ok(if before == Course::Ended { Step::Ready } else { Step::On })
            }
            step => step,
        }
    }

    /// Open what is there until `to` is full, or nothing more can be opened; how much of it was filled.
    fn open(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let rest = self.opened.get(self.taken..).unwrap_or_default();
            let room = to.get_mut(filled..).unwrap_or_default();
            let count = rest.len().min(room.len());
            if let (Some(room), Some(rest)) = (room.get_mut(..count), rest.get(..count)) {
                room.copy_from_slice(rest);
            }
            filled += count;
            self.taken += count;
            if self.taken < self.opened.len() {
                return Ok(filled);
            }
            self.taken = 0;
            if self.opened.capacity() > RECORD {
                self.opened = Vec::new();
            } else {
                self.opened.clear();
            }
            if filled == to.len() || !self.may_open() {
                return Ok(filled);
            }
            match self.step(&Task::Open) {
                Ok(Step::On | Step::Opened | Step::Ended) => {}
                Ok(Step::Ready | Step::Blocked) => return Ok(filled),
                Err(error) => {
                    let error = self.fail(error);
                    // What was opened before it is good.
                    return if filled > 0 { Ok(filled) } else { Err(error) };
                }
            }
        }
    }

    /// Whether the session could do something with what is there.
    fn may_open(&self) -> bool {
        self.course == Course::Open && self.start < self.end
    }

    /// Whether a whole record is there.
    fn has_record(&self) -> bool {
        match self.sealed_input() {
            [_, _, _, high, low, ..] => {
                self.end - self.start >= RECORD_HEAD + usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => false,
        }
    }

    fn has_opened(&self) -> bool {
        self.taken < self.opened.len() || self.course != Course::Open
    }

    /// The session failed: its alert goes, if it can at once, and nothing else.
    fn fail(&mut self, error: rustls::Error) -> io::Error {
        self.stage_alert();
        self.io.send_at_once(self.out.get(self.written..).unwrap_or_default());
        self.course = Course::Broken;
        self.failure = Some(error.to_string().into());
        io::Error::new(ErrorKind::InvalidData, error)
    }

    /// Why the session is of no use any more, where that was told by TLS.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Let what the session still has to say stand in line.
    pub(super) fn stage_alert(&mut self) {
        // What came stays where it is: the session may remember a message in it.
        while let Ok(Step::On) = self.step(&Task::Open) {}
    }

    /// Read some of the content; 0 is the end that the peer said. A connection that ends without a word was cut: an error.
    #[inline(never)]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let count = self.open(to)?;
            match self.course {
                _ if count > 0 => return Poll::Ready(Ok(count)),
                Course::Open => {}
                Course::Ended => return Poll::Ready(Ok(0)),
                Course::Broken => return Poll::Ready(Err(ErrorKind::InvalidData.into())),
            }
            if self.staged() > 0 {
                // An answer of the session's own (a new key) waits for nobody.
                let _ = self.poll_flush(cx)?;
            }
            if ready!(self.poll_receive(cx, to.len() > SMALL))? == 0 {
                self.course = Course::Broken;
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    #[inline(never)]
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    #[inline(never)]
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.staged() >= SEALED {
            ready!(self.poll_flush(cx))?;
        }
        let count = self.seal(parts)?;
        // What does not go now is written before anything that follows.
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if count == 0 => Poll::Pending,
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn seal(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut count = 0;
        for piece in parts.iter().flat_map(|part| part.chunks(RECORD)) {
            if self.staged() >= SEALED {
                break;
            }
            self.advance(|| Task::Seal(piece))?;
            count += piece.len();
        }
        Ok(count)
    }

    /// Step until `task` is done.
    fn advance<'b>(&mut self, task: impl Fn() -> Task<'b>) -> io::Result<()> {
        if self.course == Course::Broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        loop {
            match self.step(&task()) {
                Ok(Step::On | Step::Opened | Step::Ended) => {}
                Ok(Step::Ready) => return Ok(()),
                Ok(Step::Blocked) => return Err(ErrorKind::NotConnected.into()),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Sealed bytes that are still to be written.
    pub(crate) fn staged(&self) -> usize {
        self.out.len() - self.written + self.io.staged()
    }

    /// Write what goes at once of the last bytes to this peer. Behind what waits already they would not.
    pub(crate) fn send_at_once(&mut self, bytes: &[u8]) {
        if self.staged() == 0 && !bytes.is_empty() && self.seal(&[IoSlice::new(bytes)]).is_ok() {
            self.io.send_at_once(&self.out);
            self.forget_written();
        }
    }

    /// Write all that is sealed.
    #[inline(never)]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(self.io.poll_write(cx, rest)) {
                Ok(count @ 1..) => self.written += count,
                Ok(_) => return Poll::Ready(Err(self.broken(ErrorKind::WriteZero.into()))),
                Err(error) => return Poll::Ready(Err(self.broken(error))),
            }
        }
        self.forget_written();
        self.io.poll_flush(cx).map_err(|error| self.broken(error))
    }

    fn broken(&mut self, error: io::Error) -> io::Error {
        self.course = Course::Broken;
        error
    }

    fn forget_written(&mut self) {
        self.written = 0;
        if self.out.capacity() > SEALED_KEPT {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
    }

    #[inline(never)]
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_farewell()?;
        ready!(self.poll_flush(cx))?;
        self.io.poll_shutdown(cx)
    }

    fn say_farewell(&mut self) -> io::Result<()> {
        if self.course != Course::Broken && !self.farewell {
            self.advance(|| Task::Farewell)?;
            self.farewell = true;
        }
        Ok(())
    }

    #[inline(never)]
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_opened() || self.has_record() {
            return Poll::Ready(Ok(()));
        }
        self.io.poll_readable(cx)
    }

    #[inline(never)]
    pub(crate) fn is_disturbed(&self) -> bool {
        self.has_opened() || self.start < self.end || self.io.is_disturbed()
    }

    pub(crate) fn has_bytes(&self) -> bool {
        self.taken < self.opened.len() || self.has_record() || self.io.has_bytes()
    }

    /// Say nothing more: the end is to look cut.
    pub(crate) fn break_off(&mut self) {
        self.course = Course::Broken;
        self.io.break_off();
    }

    /// Nothing is under way: give back what an idle connection needs not.
    #[inline(never)]
    pub(crate) fn rest(&mut self) {
        self.io.rest();
        if self.staged() == 0 {
            self.out = Vec::new();
        }
        if self.taken == self.opened.len() {
            (self.opened, self.taken) = (Vec::new(), 0);
        }
        // Whoever sends part of a record and nothing more holds no more of ours than that.
        let part: Option<Box<[u8]>> = Some(self.sealed_input()).filter(|part| part.len() < SMALL / 2).map(Into::into);
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            (self.start, self.end) = (0, part.len());
            self.input.end();
            self.input.buffer = Some(part);
        }
    }
}

impl Drop for TlsStream {
    /// Whoever lets go of a stream has said what there was to say: the peer is told that nothing was cut (RFC 8446 §6.1).
    fn drop(&mut self) {
        let silent = self.course == Course::Broken || self.farewell || self.session.agreed().is_handshaking();
        if !silent && self.staged() == 0 && self.say_farewell().is_ok() {
            self.io.send_at_once(&self.out);
        }
    }
}
