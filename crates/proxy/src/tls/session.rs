//! The session of a TLS stream, whichever end of it is ours: what came is opened, what is to go is sealed. No sockets.

use rustls::CommonState;
use rustls::client::{ClientConfig, UnbufferedClientConnection};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use std::sync::Arc;

/// What a record has beyond its content, in every version and suite, and a record of the session's own before it (a new key).
const RECORD_OVERHEAD: usize = 256;

/// A session and its keys.
pub(super) enum Session {
    /// Of a client's connection.
    Server(Box<UnbufferedServerConnection>),
    /// Of a connection to an endpoint, and what was asked of that.
    Client(Box<UnbufferedClientConnection>, Arc<ClientConfig>),
}

/// What one step of the session came to.
pub(super) enum Step {
    /// There may be more to do with what is there.
    On,
    /// Some content was opened.
    Opened,
    /// Content can be sealed; nothing more can be opened of what is there.
    Ready,
    /// The peer has said that nothing more comes.
    Ended,
    /// The handshake needs more.
    Blocked,
}

/// What is asked of a step where content can be sealed.
pub(super) enum Task<'b> {
    Open,
    Seal(&'b [u8]),
    Farewell,
}

/// Where a step leaves what it opened and what it sealed: behind what is there.
pub(super) struct Output<'o> {
    pub(super) opened: &'o mut Vec<u8>,
    pub(super) sealed: &'o mut Vec<u8>,
}

impl Session {
    /// What is agreed on.
    pub(super) fn agreed(&self) -> &CommonState {
        match self {
            Session::Server(session) => session,
            Session::Client(session, _) => session,
        }
    }

    /// One step, and how much of `input` is done with.
    pub(super) fn step(
        &mut self,
        input: &mut [u8],
        task: &Task<'_>,
        output: Output<'_>,
    ) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Session::Server(session) => advance(session.process_tls_records(input), task, output),
            Session::Client(session, _) => advance(session.process_tls_records(input), task, output),
        }
    }
}

fn advance<S>(
    status: UnbufferedStatus<'_, '_, S>,
    task: &Task<'_>,
    output: Output<'_>,
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut step = Ok(Step::Opened);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        output.opened.extend_from_slice(record.payload);
                    }
                    Err(error) => {
                        step = Err(error);
                        break;
                    }
                }
            }
            step
        }
        Ok(ConnectionState::EncodeTlsData(mut record)) => {
            encode(output.sealed, |room| record.encode(room)).map(|()| Step::On)
        }
        Ok(ConnectionState::TransmitTlsData(sent)) => {
            // It stands in line behind what is to be written already.
            sent.done();
            Ok(Step::On)
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Ended),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match task {
            Task::Open => Ok(Step::Ready),
            Task::Seal(bytes) => seal(output.sealed, bytes.len(), |room| traffic.encrypt(bytes, room)),
            Task::Farewell => seal(output.sealed, 0, |room| traffic.queue_close_notify(room)),
        },
        Ok(_) => Ok(Step::Blocked),
        Err(error) => Err(error),
    };
    (discard, step)
}

/// Let a record of the session's own stand in line.
fn encode(
    out: &mut Vec<u8>,
    mut record: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let at = out.len();
    for _ in 0..2 {
        match record(out.get_mut(at..).unwrap_or_default()) {
            Ok(count) => {
                out.truncate(at + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(wanted)) => out.resize(at + wanted.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => break,
        }
    }
    out.truncate(at);
    Err(rustls::Error::EncryptError)
}

/// Let `length` bytes of content stand in line, sealed.
fn seal(
    out: &mut Vec<u8>,
    length: usize,
    record: impl FnOnce(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<Step, rustls::Error> {
    let at = out.len();
    out.resize(at + length + RECORD_OVERHEAD, 0);
    let sealed = record(out.get_mut(at..).unwrap_or_default());
    out.truncate(at + sealed.as_ref().copied().unwrap_or_default());
    sealed.map(|_| Step::Ready).map_err(|_| rustls::Error::EncryptError)
}
