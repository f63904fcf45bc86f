//! Sending, and what becomes of datagrams that cannot be sent. One for which there is no room is dropped, as any router would.

use super::carrier::Carrier;
use penstock_rules::error::Kind;
use penstock_rules::session::SessionId;
use penstock_system::datagrams::{self, Batch, Outgoing};
use rustix::net::SendFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Endpoints that are tried for one datagram.
const MOVES: u32 = 4;

/// What it says of the endpoint that a datagram could not be sent to it, or that one before was answered so.
pub(super) fn unreachable(error: &io::Error) -> Option<Kind> {
    match error.raw_os_error()? {
        libc::ECONNREFUSED => Some(Kind::ConnectRefused),
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN | libc::EADDRNOTAVAIL => {
            Some(Kind::ConnectFailed)
        }
        _ => None,
    }
}

/// How many datagrams these bytes are.
fn count_of(datagram: &Outgoing<'_>) -> u64 {
    datagram.segment.map_or(1, |segment| datagram.bytes.len().div_ceil(usize::from(segment).max(1)) as u64)
}

/// Several that came as one, one by one.
fn apart<'b>(datagram: &Outgoing<'b>) -> Vec<Outgoing<'b>> {
    let segment = usize::from(datagram.segment.unwrap_or(1)).max(1);
    datagram.bytes.chunks(segment).map(|bytes| Outgoing { bytes, segment: None, ..*datagram }).collect()
}

impl Carrier {
    /// Send datagrams to the endpoint of a session, or to another where it cannot be reached.
    pub(super) fn send_up(&mut self, id: SessionId, all: &[Outgoing<'_>]) {
        // Probes say that it is down: what it does not answer, another may. Where all are, it stays.
        if self.table.get(id).is_some_and(|session| session.in_flight.endpoint.shared.is_down()) {
            self.change(id);
        }
        let (mut rest, mut moves) = (all, 0);
        while let Some(first) = rest.first() {
            let Some(session) = self.table.get(id) else { return self.dropped(rest.iter().map(count_of).sum()) };
            let sent = match (rest.len(), first.segment) {
                (1, None) => rustix::net::send(&session.socket, first.bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
                    .map(|_| 1)
                    .map_err(io::Error::from),
                _ => self.send(session.socket.as_fd(), rest),
            };
            match sent {
                Ok(count) => {
                    let (sent, left) = rest.split_at(count.clamp(1, rest.len()));
                    let bytes = sent.iter().map(|one| one.bytes.len() as u64).sum();
                    self.note_up(id, bytes, sent.iter().map(count_of).sum());
                    rest = left;
                }
                Err(error) => {
                    if let Some(kind) = unreachable(&error) {
                        // Another endpoint gets it; where there is none, the session has ended.
                        self.move_on(id, kind);
                        moves += 1;
                        if moves < MOVES {
                            continue;
                        }
                    }
                    match first.segment.filter(|_| moves == 0) {
                        // Longer than the way to the endpoint takes, or the device cannot do it.
                        Some(_) => self.send_up(id, &apart(first)),
                        None => self.dropped(1),
                    }
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
        }
    }

    /// Send the answers that are at hand to their clients.
    pub(super) fn send_down(&mut self, batch: &Batch) {
        if self.answers.is_empty() {
            return;
        }
        let answers = std::mem::take(&mut self.answers);
        let outgoing = |(at, (id, client)): (usize, &(SessionId, super::Client))| {
            let (came, bytes) = batch.get(at).filter(|(came, _)| !came.truncated)?;
            let one = Outgoing { to: Some(client.peer), from: client.own, bytes, segment: came.segment };
            Some((*id, one))
        };
        let (ids, whole): (Vec<SessionId>, Vec<Outgoing<'_>>) = answers.iter().enumerate().filter_map(outgoing).unzip();
        self.dropped((answers.len() - whole.len()) as u64);
        self.answers = answers;
        self.answers.clear();
        let mut at = 0;
        while let Some(rest) = whole.get(at..).filter(|rest| !rest.is_empty()) {
            let sent = match self.send(self.socket.as_fd(), rest) {
                Ok(count) => count.clamp(1, rest.len()),
                Err(_) => {
                    if let (Some(first), Some(id)) = (rest.first(), ids.get(at)) {
                        self.send_alone(*id, first);
                    }
                    at += 1;
                    continue;
                }
            };
            for (id, one) in ids.iter().zip(&whole).skip(at).take(sent) {
                self.note_down(*id, one.bytes.len() as u64, count_of(one));
            }
            at += sent;
        }
    }

    fn send(&self, socket: BorrowedFd<'_>, all: &[Outgoing<'_>]) -> io::Result<usize> {
        if self.segments { datagrams::send_joined(socket, all) } else { datagrams::send(socket, all) }
    }

    /// What could not be sent with others, or as one.
    fn send_alone(&mut self, id: SessionId, datagram: &Outgoing<'_>) {
        if datagram.segment.is_none() {
            return self.dropped(1);
        }
        for one in apart(datagram) {
            match datagrams::send(self.socket.as_fd(), &[one]) {
                Ok(_) => self.note_down(id, one.bytes.len() as u64, 1),
                Err(_) => self.dropped(1),
            }
        }
    }
}
