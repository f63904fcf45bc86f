//! The thread that writes what workers hand over. A full disk loses records, never requests: they are counted, and the log tells when it
//! begins and ends.

use super::{Message, Target, Wish, append};
use crate::observe::events::{Events, Level};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

/// What the writer shares with the rest.
pub(super) struct Writer {
    pub(super) wish: Arc<Mutex<Wish>>,
    pub(super) events: Arc<Events>,
    /// Records that could not be written.
    pub(super) lost: Arc<AtomicU64>,
    /// Bytes that wait for it.
    pub(super) queued: Arc<AtomicUsize>,
}

/// Where it writes, and how that fares.
#[derive(Default)]
struct Place {
    target: Option<Target>,
    failing: bool,
    /// The last record was written in part: what comes next must not be taken for the rest of it.
    torn: bool,
}

impl Writer {
    /// Write until told to stop.
    pub(super) fn run(&self, messages: &Receiver<Message>) {
        let mut place = Place::default();
        for message in messages {
            self.obey(&mut place);
            match message {
                Message::Records(text) => {
                    self.write(&mut place, &text);
                    self.queued.fetch_sub(text.len(), Relaxed);
                }
                Message::Look => {}
                Message::Stop => return,
            }
        }
    }

    fn obey(&self, place: &mut Place) {
        let wished = std::mem::take(&mut *self.wish.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(next) = wished.target {
            *place = Place { target: next, ..Place::default() };
        }
        if wished.reopen
            && let Some(Target::File(path, file)) = &mut place.target
        {
            match append(path) {
                Ok(anew) => (*file, place.torn) = (anew, false),
                Err(error) => self.events.add(
                    Level::Error,
                    "access_log",
                    format!("access log: cannot open {path} anew, the old file goes on: {error}"),
                    &[],
                ),
            }
        }
    }

    fn write(&self, place: &mut Place, text: &[u8]) {
        let Some(target) = &mut place.target else { return };
        let failure = if place.torn { put(target, b"\n").err() } else { None };
        let (written, failure) = match failure {
            Some((_, error)) => (0, Some(error)),
            None => {
                place.torn = false;
                match put(target, text) {
                    Ok(()) => (text.len(), None),
                    Err((written, error)) => (written, Some(error)),
                }
            }
        };
        if let Some(last) = written.checked_sub(1).and_then(|last| text.get(last)) {
            place.torn = *last != b'\n';
        }
        let lost = text.get(written..).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
        self.lost.fetch_add(lost as u64, Relaxed);
        if place.failing != failure.is_some() {
            place.failing = failure.is_some();
            self.tell(failure);
        }
    }

    fn tell(&self, failure: Option<io::Error>) {
        let (level, message) = match failure {
            Some(error) => {
                (Level::Error, format!("access log: records are lost, requests are served all the same: {error}"))
            }
            None => (Level::Info, "access log: records are written again".to_owned()),
        };
        self.events.add(level, "access_log", message, &[]);
    }
}

/// Write all of `text`, or say how much of it was written.
fn put(target: &mut Target, text: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        let wrote = match target {
            // Not through the standard library's own buffer: what it keeps of a failed write would come again.
            Target::Stdout(file) | Target::File(_, file) => file.write(rest),
        };
        match wrote {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}
