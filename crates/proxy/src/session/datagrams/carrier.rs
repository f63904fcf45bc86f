//! Step 7, relay: datagrams from clients to endpoints and back, many at a time.

use super::{Client, Session};
use crate::clock::{Alarm, Clock, Tick};
use crate::session::record::Moved;
use crate::snapshot::SharedListener;
use crate::worker::Worker;
use arc_swap::ArcSwap;
use penstock_rules::error::Kind;
use penstock_rules::session::{End, SessionId, SessionTable};
use penstock_system::datagrams::{self, BATCH, Batch, Outgoing};
use rustix::event::{Timespec, epoll};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sessions whose answers are looked for at once.
const EVENTS: usize = 64;
/// Answers of one session that are taken at once, where it has not shown that there are more.
const FEW: usize = 8;
/// Answers after which a session is worth one more call, so that the system gives several datagrams as one.
const MANY: u64 = 64;
/// Sessions that are ended at once for their silence.
const SWEPT: usize = 1024;

/// What carries the sessions of one listener in one worker.
pub(super) struct Carrier {
    pub(super) worker: Rc<Worker>,
    pub(super) owner: Arc<ArcSwap<SharedListener>>,
    pub(super) port: Option<u16>,
    pub(super) socket: Rc<UdpSocket>,
    /// Tells of answers, by the bits of the session's id.
    pub(super) epoll: Rc<OwnedFd>,
    /// Whether the system sends several datagrams as one.
    pub(super) segments: bool,
    pub(super) table: SessionTable<Client, Box<Session>>,
    /// Answers that are at hand, in the order of their places in the batch.
    pub(super) answers: Vec<(SessionId, Client)>,
    idle: Duration,
    responses: Option<u32>,
}

impl Carrier {
    pub(super) fn new(
        worker: Rc<Worker>,
        (owner, port): (Arc<ArcSwap<SharedListener>>, Option<u16>),
        (socket, epoll): (Rc<UdpSocket>, Rc<OwnedFd>),
    ) -> Carrier {
        Carrier {
            worker,
            owner,
            port,
            segments: datagrams::sends_segments(socket.as_fd()),
            socket,
            epoll,
            table: SessionTable::default(),
            answers: Vec::with_capacity(BATCH),
            idle: Duration::MAX,
            responses: None,
        }
    }

    /// Keep to the configuration as it is now.
    pub(super) fn renew(&mut self) {
        let id = self.owner.load().id;
        let Some((local, _)) = self.worker.local_of(id) else { return };
        if let Some((_, listener)) = local.snapshot.listener(id) {
            self.idle = listener.plan.timeouts.idle;
            self.responses = listener.plan.datagrams.and_then(|datagrams| datagrams.responses);
        }
    }

    /// Pass on what clients sent; whether there may be more.
    pub(super) fn take_in(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let count = batch.receive(self.socket.as_fd(), 0, BATCH)?;
        let mut at = 0;
        while at < count {
            at += self.pass_on(batch, at, count);
        }
        Ok(count == BATCH)
    }

    /// Pass on the datagrams at `from` and behind it that are of one client; how many.
    fn pass_on(&mut self, batch: &Batch, from: usize, count: usize) -> usize {
        let client_at = |at: usize| batch.get(at).and_then(|(came, _)| Client::of(&came));
        let Some(client) = client_at(from) else { return 1 };
        let run = (from..count).take_while(|at| client_at(*at) == Some(client)).count().max(1);
        let Some(id) = self.table.find(&client).or_else(|| self.open(client)) else {
            self.dropped(run as u64);
            return run;
        };
        let outgoing = |at: usize| {
            // Half a datagram is none.
            let (came, bytes) = batch.get(at).filter(|(came, _)| !came.truncated)?;
            Some(Outgoing { to: None, from: None, bytes, segment: came.segment })
        };
        match run {
            1 => match outgoing(from) {
                Some(one) => self.send_up(id, &[one]),
                None => self.dropped(1),
            },
            _ => {
                let whole: Vec<Outgoing<'_>> = (from..from + run).filter_map(outgoing).collect();
                self.dropped((run - whole.len()) as u64);
                self.send_up(id, &whole);
            }
        }
        run
    }

    /// Pass on what endpoints answered; whether there may be more.
    pub(super) fn take_out(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let (mut events, now) = ([none; EVENTS], Timespec { tv_sec: 0, tv_nsec: 0 });
        let count = epoll::wait(&*self.epoll, &mut events, Some(&now))?;
        let mut more = count == EVENTS;
        for event in events.iter().take(count) {
            let bits = event.data.u64();
            if self.answers.len() == BATCH {
                self.send_down(batch);
            }
            more |= self.hear(SessionId::from_bits(bits), batch);
        }
        self.send_down(batch);
        Ok(more)
    }

    /// Take in what the endpoint of a session sent; whether there may be more.
    fn hear(&mut self, id: SessionId, batch: &mut Batch) -> bool {
        let Some(session) = self.table.get_mut(id) else { return false };
        let used = self.answers.len();
        let most = if session.bulk { BATCH - used } else { FEW.min(BATCH - used) };
        match batch.receive(session.socket.as_fd(), used, most) {
            Ok(count) => {
                session.bulk = count == most;
                if self.segments && !session.gathers && session.down[1] > MANY {
                    // Where the system cannot, datagrams come one by one.
                    let _ = datagrams::take_segments(session.socket.as_fd());
                    session.gathers = true;
                }
                let client = session.client;
                self.answers.extend(std::iter::repeat_n((id, client), count));
                note_answer(session);
                count == most
            }
            Err(error) => {
                if let Some(kind) = super::send::unreachable(&error) {
                    self.move_on(id, kind);
                }
                false
            }
        }
    }

    /// Datagrams went to the endpoint.
    pub(super) fn note_up(&mut self, id: SessionId, bytes: u64, count: u64) {
        let Some(session) = self.table.get_mut(id) else { return };
        let counters = session.place.listener.counters.of(self.worker.index);
        counters.bytes_in.add(bytes);
        counters.datagrams[0].add(count);
        session.up[0] += bytes;
        session.up[1] += count;
        // Whoever sends again after an answer has had it, or guesses well.
        let proven = session.down[1] > 0;
        self.table.touch(id, self.worker.clock.now(), proven);
    }

    /// Datagrams went to the client.
    pub(super) fn note_down(&mut self, id: SessionId, bytes: u64, count: u64) {
        let Some(session) = self.table.get_mut(id) else { return };
        let counters = session.place.listener.counters.of(self.worker.index);
        counters.bytes_out.add(bytes);
        counters.datagrams[1].add(count);
        session.down[0] += bytes;
        session.down[1] += count;
        let (asked, told) = (session.up[1], session.down[1]);
        self.table.touch(id, self.worker.clock.now(), false);
        if self.responses.is_some_and(|responses| told >= asked.saturating_mul(responses.into())) {
            self.end(id, End::Answered);
        }
    }

    /// Datagrams were not passed on.
    pub(super) fn dropped(&self, count: u64) {
        self.owner.load().counters.of(self.worker.index).datagrams[2].add(count);
    }

    /// End who was silent for too long, and all where the process ends.
    pub(super) fn sweep(&mut self, alarm: &Alarm) {
        if self.worker.is_leaving() {
            self.end_all(End::Shutdown);
        }
        let (now, idle) = (self.worker.clock.now(), Clock::ticks(self.idle).saturating_add(1));
        for _ in 0..SWEPT {
            match self.table.oldest() {
                Some((id, used)) if used.saturating_add(idle) <= now => self.end(id, End::Idle),
                _ => break,
            }
        }
        if let Some((_, used)) = self.table.oldest() {
            alarm.lower(Tick::max(used.saturating_add(idle), now + 1));
        }
    }

    pub(super) fn end_all(&mut self, end: End) {
        while let Some((id, _)) = self.table.oldest() {
            self.end(id, end);
        }
    }

    /// Step 9, record.
    pub(super) fn end(&mut self, id: SessionId, end: End) {
        let Some(session) = self.table.remove(id) else { return };
        let moved =
            Moved { bytes: [session.up[0], session.down[0]], datagrams: Some([session.up[1], session.down[1]]) };
        session.about.record(&self.worker, &session.place.listener, Some(&session.in_flight.endpoint), end, moved);
    }

    /// An attempt to reach an endpoint failed.
    pub(super) fn fail(&self, kind: Kind) {
        self.worker.counters().fail(kind);
    }
}

/// The endpoint has answered: it lives, and how long it took for its first word is what is known of its load.
fn note_answer(session: &mut Session) {
    session.tried = 0;
    if session.down[1] == 0 {
        let now = Instant::now();
        let endpoint = &session.in_flight.endpoint;
        endpoint.answered(Some(now.saturating_duration_since(session.about.began)), now);
        endpoint.shared.standing.succeeded(now);
    }
}
