//! The threads of an engine, and what they are told.

use crate::clock::Woke;
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

/// How often it is looked whether a thread ended.
const ENDING: Duration = Duration::from_millis(1);
/// Threads beside it for what takes long or may hang: what comes while all are busy waits.
const HELPERS: usize = 16;
/// Tasks that have their turn before the system is asked for what came meanwhile. With fewer than there are busy connections, it would be
/// asked again for the few that are left over, which then find little to do: twice as often for each request.
const TURN: u32 = 256;

/// A thread that obeys commands.
pub(super) struct Thread<C> {
    commands: mpsc::UnboundedSender<C>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> Thread<C> {
    /// Start it with a runtime of its own.
    ///
    /// # Errors
    /// What the system says, with the thread's name: there are no threads or no descriptors left.
    pub(super) fn start(
        name: String,
        run: impl FnOnce((&LocalRuntime, Woke), mpsc::UnboundedReceiver<C>) + Send + 'static,
    ) -> io::Result<Thread<C>> {
        let named = |error: io::Error| {
            let remedy = match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => "; raise the limit of open files, or have fewer workers",
                _ => "",
            };
            io::Error::new(error.kind(), format!("thread {name}: {error}{remedy}"))
        };
        let (commands, received) = mpsc::unbounded_channel();
        let (tell, told) = sync_channel(1);
        // A runtime never leaves its thread, so only the thread can say whether there is one.
        let mut builder = Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(HELPERS).event_interval(TURN);
        let woke = Woke::default();
        let teller = woke.clone();
        builder.on_thread_unpark(move || teller.tell());
        let body = move || match builder.build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = tell.send(Ok(()));
                run((&runtime, woke), received);
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(body).map_err(named)?;
        told.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once"))).map_err(named)?;
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
