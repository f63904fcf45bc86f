//! Workers that do not go on: which, since when, and what the kernel says of their threads.

use crate::observe::events::Level;
use crate::worker::Shared;
use penstock_rules::watchdog::{Change, Watchdog};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// Part of a processor from which on a thread spins; on a busy machine a spinning one gets little more.
const SPINNING: f64 = 0.05;

/// Watches every worker.
pub(super) struct Stuck {
    began: Instant,
    workers: Vec<Watched>,
}

struct Watched {
    dog: Watchdog,
    /// Processor time of the thread, and when it was that, from half of the patience on.
    processor: Option<(Duration, Duration)>,
}

impl Stuck {
    pub(super) fn new(workers: usize, now: Instant) -> Stuck {
        let workers = (0..workers).map(|_| Watched { dog: Watchdog::new(Duration::ZERO, 0), processor: None });
        Stuck { began: now, workers: workers.collect() }
    }

    pub(super) fn look(&mut self, shared: &Shared, now: Instant) {
        let patience = shared.snapshot.load().as_ref().map_or(Duration::ZERO, |snapshot| snapshot.plan.engine.watchdog);
        let now = now.saturating_duration_since(self.began);
        let patience = if patience.is_zero() { Duration::MAX } else { patience };
        for (index, watched) in self.workers.iter_mut().enumerate() {
            let counters = shared.counters.of(index);
            let change = watched.dog.look(now, counters.ticks.get(), patience);
            let thread = counters.thread.get();
            match change {
                Some(Change::Stuck) => {
                    counters.stuck.set(1);
                    tell(shared, index, &watched.report(thread, now));
                }
                Some(Change::Back(stood)) => {
                    counters.stuck.set(0);
                    let seconds = stood.as_secs_f64();
                    let message = format!("worker {index} (thread {thread}) runs again after {seconds:.1} s");
                    let fields = [("worker", json!(index)), ("thread", json!(thread)), ("seconds", json!(seconds))];
                    shared.events.add(Level::Warning, "worker_back", message, &fields);
                }
                None if watched.dog.stood(now) < patience / 2 => watched.processor = None,
                None if watched.processor.is_none() => {
                    watched.processor = processor_time(thread).map(|time| (time, now));
                }
                None => {}
            }
        }
    }
}

/// A thread that does not go on, as the kernel sees it.
struct Report {
    thread: u64,
    stood: Duration,
    /// Part of a processor that it used meanwhile, 0 to 1.
    busy: Option<f64>,
    /// As in `/proc/PID/stat`: R runs, S sleeps, D waits for a device, T is stopped.
    state: String,
    wchan: String,
    call: String,
}

impl Watched {
    fn report(&self, thread: u64, now: Duration) -> Report {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{name}")).unwrap_or_default();
        let busy = self.processor.zip(processor_time(thread)).and_then(|((before, at), after)| {
            let part = after.saturating_sub(before).as_secs_f64() / now.saturating_sub(at).as_secs_f64();
            part.is_finite().then_some(part)
        });
        // The thread's name stands in parentheses and may have any character (proc(5)).
        let stat = read("stat");
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("?");
        Report {
            thread,
            stood: self.dog.stood(now),
            busy,
            state: state.to_owned(),
            wchan: read("wchan"),
            call: read("syscall").split_whitespace().next().unwrap_or_default().to_owned(),
        }
    }
}

fn tell(shared: &Shared, index: usize, report: &Report) {
    let Report { thread, stood, busy, state, wchan, call } = report;
    let seconds = stood.as_secs_f64();
    let what = match busy {
        Some(busy) if *busy > SPINNING => format!("it spins, using {:.0} % of a processor", busy * 100.0),
        Some(_) if state == "R" => "it gets no processor".to_owned(),
        Some(_) if state == "T" || state == "t" => "it is stopped".to_owned(),
        Some(_) => "it waits in the kernel".to_owned(),
        None => "the kernel does not say what it does".to_owned(),
    };
    let message = format!("worker {index} (thread {thread}) is stuck for {seconds:.1} s: {what}");
    let fields = [
        ("worker", json!(index)),
        ("thread", json!(thread)),
        ("seconds", json!(seconds)),
        ("state", json!(state)),
        ("wchan", json!(wchan)),
        ("syscall", json!(call)),
        ("busy", json!(busy)),
    ];
    shared.events.add(Level::Error, "worker_stuck", message, &fields);
}

/// Time that a thread of ours ran on a processor.
fn processor_time(thread: u64) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
