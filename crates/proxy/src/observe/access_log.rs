//! Access records: formatted on the worker into a batch of its own, written by another thread. No request waits for a disk; what
//! the writer cannot take is dropped and counted.

mod format;
mod session;
mod writer;

pub(crate) use format::{Record, Refusal, Stamp};
pub(crate) use session::SessionRecord;

use super::events::Events;
use super::metrics::WorkerCounters;
use penstock_plan::{AccessLog, LogFormat, LogTarget};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A batch of this size is handed over at once, a smaller one with the next tick.
const BATCH: usize = 32 * 1024;
/// Batches that wait for the writer, and their bytes; more are dropped.
const QUEUE: usize = 256;
const QUEUED: usize = 8 << 20;
/// How long a stop waits for the writer, and how often it looks.
const STOP: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(2);

/// The records of one worker that are not yet handed over.
#[derive(Default)]
pub(crate) struct RecordBatch {
    pub(crate) text: Vec<u8>,
    count: u64,
    stamp: format::Stamp,
    /// The batch is full: hand it over before the next record.
    full: bool,
}

/// Where workers hand over their batches.
pub(crate) struct LogSink {
    queue: SyncSender<Message>,
    wish: Arc<Mutex<Wish>>,
    lost: Arc<AtomicU64>,
    /// Bytes in the queue.
    queued: Arc<AtomicUsize>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Records(Vec<u8>),
    /// Look at the wish.
    Look,
    Stop,
}

/// What the writer is to do before it writes on. Beside the queue, because nobody may wait for a writer that cannot write.
#[derive(Default)]
struct Wish {
    /// Write here from now on; `Some(None)`: nowhere.
    target: Option<Option<Target>>,
    /// Open the file anew.
    reopen: bool,
}

/// Where records go.
pub(crate) enum Target {
    Stdout(File),
    File(String, File),
}

impl LogSink {
    pub(crate) fn start(events: Arc<Events>) -> io::Result<LogSink> {
        let (queue, messages) = sync_channel(QUEUE);
        let wish = Arc::new(Mutex::new(Wish::default()));
        let lost = Arc::new(AtomicU64::new(0));
        let queued = Arc::new(AtomicUsize::new(0));
        let (wished, losing, taking) = (Arc::clone(&wish), Arc::clone(&lost), Arc::clone(&queued));
        let writer = writer::Writer { wish: wished, events, lost: losing, queued: taking };
        let writer = std::thread::Builder::new().name("penstock-log".into()).spawn(move || writer.run(&messages))?;
        Ok(LogSink { queue, wish, lost, queued, writer: Mutex::new(Some(writer)) })
    }

    /// Records that were handed over and could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Hand over what a worker has gathered.
    pub(crate) fn flush(&self, batch: &mut RecordBatch, counters: &WorkerCounters) {
        if batch.text.is_empty() {
            return;
        }
        let text = std::mem::replace(&mut batch.text, Vec::with_capacity(BATCH + 4096));
        if let Some(mut text) = self.hand_over(text) {
            counters.records_dropped.add(batch.count);
            text.clear();
            batch.text = text;
        }
        batch.count = 0;
        batch.full = false;
    }

    /// Records that have no room are given back.
    fn hand_over(&self, text: Vec<u8>) -> Option<Vec<u8>> {
        let length = text.len();
        if self.queued.fetch_add(length, Relaxed) > QUEUED.saturating_sub(length) {
            self.queued.fetch_sub(length, Relaxed);
            return Some(text);
        }
        match self.queue.try_send(Message::Records(text)) {
            Err(TrySendError::Full(Message::Records(text)) | TrySendError::Disconnected(Message::Records(text))) => {
                self.queued.fetch_sub(length, Relaxed);
                Some(text)
            }
            _ => None,
        }
    }

    /// Write to this target from now on.
    pub(crate) fn redirect(&self, target: Option<Target>) {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner).target = Some(target);
        // With a full queue the writer looks before its next record.
        let _ = self.queue.try_send(Message::Look);
    }

    pub(crate) fn reopen(&self) {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner).reopen = true;
        let _ = self.queue.try_send(Message::Look);
    }

    /// Write what was handed over and end; a writer that waits for somebody who does not read is left behind.
    pub(crate) fn stop(&self) {
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let until = Instant::now() + STOP;
        let mut told = false;
        while !writer.is_finished() {
            if Instant::now() >= until {
                return;
            }
            told = told || self.queue.try_send(Message::Stop).is_ok();
            std::thread::sleep(LOOK);
        }
        let _ = writer.join();
    }
}

/// Open what a plan asks for.
///
/// # Errors
/// What the system says, with the path.
pub(crate) fn open(log: Option<&AccessLog>) -> Result<Option<Target>, String> {
    match log.map(|log| &log.to) {
        None => Ok(None),
        Some(LogTarget::Stdout) => match io::stdout().as_fd().try_clone_to_owned() {
            Ok(stdout) => Ok(Some(Target::Stdout(stdout.into()))),
            Err(error) => Err(format!("cannot write to standard output: {error}")),
        },
        Some(LogTarget::File(path)) => match append(path) {
            Ok(file) => Ok(Some(Target::File(path.clone(), file))),
            Err(error) => Err(format!("cannot open {path} for writing: {error}")),
        },
    }
}

fn append(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Add the record of an exchange.
pub(crate) fn add(log: &AccessLog, record: &Record<'_>, batch: &mut RecordBatch) {
    batch.count += 1;
    let RecordBatch { text, stamp, .. } = batch;
    match log.format {
        LogFormat::Json => format::json(record, log.query, stamp, text),
        LogFormat::Combined => format::combined(record, log.query, stamp, text),
        LogFormat::Haproxy => format::haproxy(record, log.query, stamp, text),
    }
    batch.full = batch.text.len() >= BATCH;
}

/// Add the record of what never became a request.
pub(crate) fn add_refused(format: LogFormat, refusal: &Refusal<'_>, batch: &mut RecordBatch) {
    batch.count += 1;
    let RecordBatch { text, stamp, .. } = batch;
    format::refused(format, refusal, stamp, text);
    batch.full = batch.text.len() >= BATCH;
}

/// Add the record of a session of layer 4.
pub(crate) fn add_session(format: LogFormat, record: &SessionRecord<'_>, batch: &mut RecordBatch) {
    batch.count += 1;
    let RecordBatch { text, stamp, .. } = batch;
    session::write(format, record, stamp, text);
    batch.full = batch.text.len() >= BATCH;
}

impl RecordBatch {
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_writer_is_bounded_in_bytes() {
        let (queue, messages) = sync_channel(QUEUE);
        let (wish, lost, queued) = (Arc::default(), Arc::default(), Arc::default());
        let sink = LogSink { queue, wish, lost, queued, writer: Mutex::new(None) };
        let (counters, mut batch) = (WorkerCounters::default(), RecordBatch::default());
        for _ in 0..20 {
            batch.text.resize(1 << 20, b'x');
            batch.count = 3;
            sink.flush(&mut batch, &counters);
            assert!(batch.text.is_empty());
        }
        assert_eq!(messages.try_iter().count(), QUEUED >> 20);
        assert_eq!(counters.records_dropped.get(), 3 * (20 - (QUEUED as u64 >> 20)));
    }
}
