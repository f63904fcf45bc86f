//! Access records: formatted on the worker into a batch of its own, written by another thread. No request waits for a disk; what
//! the writer cannot take is dropped and counted.

mod format;

pub(crate) use format::{Record, Refusal};

use super::metrics::WorkerCounters;
use penstock_plan::{AccessLog, LogFormat, LogTarget};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// A batch of this size is handed over at once, a smaller one with the next tick.
const BATCH: usize = 32 * 1024;
/// Batches that wait for the writer; more are dropped.
const QUEUE: usize = 256;

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
    writer: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Records(Vec<u8>),
    /// Write here from now on; `None`: nowhere.
    Open(Option<Target>),
    /// Open the file anew.
    Reopen,
    Stop,
}

/// Where records go.
pub(crate) enum Target {
    Stdout,
    File(String, File),
}

impl LogSink {
    pub(crate) fn start() -> io::Result<LogSink> {
        let (queue, messages) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new().name("penstock-log".into()).spawn(move || write(messages))?;
        Ok(LogSink { queue, writer: Mutex::new(Some(writer)) })
    }

    /// Hand over what a worker has gathered.
    pub(crate) fn flush(&self, batch: &mut RecordBatch, counters: &WorkerCounters) {
        if batch.text.is_empty() {
            return;
        }
        let text = std::mem::replace(&mut batch.text, Vec::with_capacity(BATCH + 4096));
        match self.queue.try_send(Message::Records(text)) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                counters.records_dropped.add(batch.count);
                if let Message::Records(mut text) = message {
                    text.clear();
                    batch.text = text;
                }
            }
        }
        batch.count = 0;
        batch.full = false;
    }

    /// Write to this target from now on.
    pub(crate) fn redirect(&self, target: Option<Target>) {
        let _ = self.queue.send(Message::Open(target));
    }

    pub(crate) fn reopen(&self) {
        let _ = self.queue.send(Message::Reopen);
    }

    /// Write what was handed over and end.
    pub(crate) fn stop(&self) {
        let _ = self.queue.send(Message::Stop);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

/// Open what a plan asks for.
///
/// # Errors
/// What the system says, with the path.
pub(crate) fn open(log: Option<&AccessLog>) -> Result<Option<Target>, String> {
    match log.map(|log| &log.to) {
        None => Ok(None),
        Some(LogTarget::Stdout) => Ok(Some(Target::Stdout)),
        Some(LogTarget::File(path)) => match append(path) {
            Ok(file) => Ok(Some(Target::File(path.clone(), file))),
            Err(error) => Err(format!("cannot open {path} for writing: {error}")),
        },
    }
}

fn append(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn write(messages: Receiver<Message>) {
    let mut target: Option<Target> = None;
    for message in messages {
        match message {
            // A full disk loses records, never requests; there is nowhere to say so but the counters of the disk.
            Message::Records(text) => {
                let _ = match &mut target {
                    Some(Target::Stdout) => io::stdout().write_all(&text).and_then(|()| io::stdout().flush()),
                    Some(Target::File(_, file)) => file.write_all(&text),
                    None => Ok(()),
                };
            }
            Message::Open(next) => target = next,
            Message::Reopen => {
                if let Some(Target::File(path, file)) = &mut target
                    && let Ok(anew) = append(path)
                {
                    *file = anew;
                }
            }
            Message::Stop => return,
        }
    }
}

/// Add the record of an exchange.
pub(crate) fn add(format: LogFormat, record: &Record<'_>, batch: &mut RecordBatch) {
    batch.count += 1;
    let RecordBatch { text, stamp, .. } = batch;
    match format {
        LogFormat::Json => format::json(record, stamp, text),
        LogFormat::Combined => format::combined(record, stamp, text),
        LogFormat::Haproxy => format::haproxy(record, stamp, text),
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

impl RecordBatch {
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }
}
