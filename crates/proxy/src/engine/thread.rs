//! The threads of an engine, and what they are told.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often it is looked whether a thread ended.
const ENDING: Duration = Duration::from_millis(1);

/// A thread that obeys commands.
pub(super) struct Thread<C> {
    commands: mpsc::UnboundedSender<C>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> Thread<C> {
    pub(super) fn start(
        name: String,
        run: impl FnOnce(mpsc::UnboundedReceiver<C>) + Send + 'static,
    ) -> io::Result<Thread<C>> {
        let (commands, received) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || run(received))?;
        Ok(Thread { commands, thread: Some(thread) })
    }

    pub(super) fn tell(&self, command: C) {
        // The receiver is gone only when the thread is: then there is nobody to obey.
        let _ = self.commands.send(command);
    }

    /// Wait for its end; one that is stuck is left behind.
    pub(super) fn join(&mut self, until: Instant) {
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(ENDING);
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}
