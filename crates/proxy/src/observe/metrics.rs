//! Counters. Each worker writes its own, on cache lines of its own; they are summed when somebody asks.

use crate::admit::REASONS;
use crate::exchange::CopyOutcome;
use crate::upstream::circuit::Limit;
use crate::upstream::waits::Waiting;
use penstock_rules::error::Kind;
use penstock_rules::session::End;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that one thread writes and any thread reads: no locked instruction on the path of a request.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(crate) fn subtract(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(count), Relaxed);
    }

    /// Count one more until what is returned is dropped.
    pub(crate) fn raise(&self) -> Raised<'_> {
        self.add(1);
        Raised(self)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One that is counted while it lives, however it ends.
pub(crate) struct Raised<'a>(&'a Counter);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.subtract(1);
    }
}

/// Of one rule of a forward proxy.
#[derive(Debug, Default)]
pub(crate) struct RuleCounters {
    /// Requests and tunnels that it took.
    pub(crate) taken: Counter,
}

/// Of tunnels that a forward proxy is to open.
#[derive(Debug, Default)]
pub(crate) struct InterceptionCounters {
    /// Those that were opened.
    pub(crate) opened: Counter,
    /// Those that stayed closed because their client refused a certificate before, or because there was no TLS in them.
    pub(crate) pinned: Counter,
    pub(crate) no_tls: Counter,
    /// Clients that refused a certificate, and origins that did not prove who they are.
    pub(crate) refused: Counter,
    pub(crate) unverified: Counter,
}

/// One value a worker, each on cache lines of its own.
#[derive(Debug)]
pub(crate) struct Sharded<T>(Box<[Padded<T>]>);

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    pub(crate) fn new(workers: usize) -> Sharded<T> {
        Sharded((0..workers.max(1)).map(|_| Padded::default()).collect())
    }

    /// The part of one worker.
    pub(crate) fn of(&self, worker: usize) -> &T {
        // A worker's index is below the count the engine was made with; a wrong one shares the last part.
        let last = self.0.len() - 1;
        &self.0[worker.min(last)].0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|part| &part.0)
    }

    pub(crate) fn most(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().map(|part| of(&part.0)).max().unwrap_or_default()
    }

    pub(crate) fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.wrapping_add(of(&part.0)))
    }
}

/// Upper bounds of the latency histogram, in microseconds.
pub(crate) const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// What a worker counts.
#[derive(Debug)]
pub(crate) struct WorkerCounters {
    pub(crate) latency: [Counter; BOUNDS.len() + 1],
    pub(crate) latency_sum: Counter,
    /// By [`Kind::index`].
    pub(crate) failures: Vec<Counter>,
    pub(crate) panics: Counter,
    /// Fields of requests that were dropped for a `_` in their name.
    pub(crate) dropped_fields: Counter,
    pub(crate) records: Counter,
    pub(crate) records_dropped: Counter,
    pub(crate) connections: Counter,
    /// Open sessions of datagrams.
    pub(crate) sessions: Counter,
    /// Open tunnels whose client can be told that we go away.
    pub(crate) websockets: Counter,
    /// Requests under way, and bytes of buffers that they hold.
    pub(crate) requests: Counter,
    pub(crate) lent: Counter,
    /// Counts up for as long as the worker goes on; and its thread, as the kernel numbers it.
    pub(crate) ticks: Counter,
    pub(crate) thread: Counter,
    /// 1 while it does not; written by the control thread alone.
    pub(crate) stuck: Counter,
    /// Idle connections that were closed to make room, and unused ones to endpoints.
    pub(crate) shed_connections: Counter,
    pub(crate) shed_pooled: Counter,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        WorkerCounters {
            latency: Default::default(),
            latency_sum: Counter::default(),
            failures: Kind::ALL.iter().map(|_| Counter::default()).collect(),
            panics: Counter::default(),
            dropped_fields: Counter::default(),
            records: Counter::default(),
            records_dropped: Counter::default(),
            connections: Counter::default(),
            sessions: Counter::default(),
            websockets: Counter::default(),
            requests: Counter::default(),
            lent: Counter::default(),
            ticks: Counter::default(),
            thread: Counter::default(),
            stuck: Counter::default(),
            shed_connections: Counter::default(),
            shed_pooled: Counter::default(),
        }
    }
}

impl WorkerCounters {
    pub(crate) fn observe(&self, micros: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(counter) = self.latency.get(bucket) {
            counter.add(1);
        }
        self.latency_sum.add(micros);
    }

    pub(crate) fn fail(&self, kind: Kind) {
        if let Some(counter) = self.failures.get(kind.index()) {
            counter.add(1);
        }
    }
}

/// What is counted of a route.
#[derive(Debug, Default)]
pub(crate) struct RouteCounters {
    /// By first digit of the status, 1 to 5.
    pub(crate) statuses: [Counter; 5],
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
}

impl RouteCounters {
    pub(crate) fn observe(&self, status: u16, bytes_in: u64, bytes_out: u64) {
        if let Some(counter) = self.statuses.get(usize::from(status / 100).saturating_sub(1)) {
            counter.add(1);
        }
        self.bytes_in.add(bytes_in);
        self.bytes_out.add(bytes_out);
    }
}

/// What is counted of a listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) open: Counter,
    pub(crate) accepted: Counter,
    /// By [`REASONS`].
    pub(crate) refused: [Counter; REASONS.len()],
    pub(crate) tunnels: Counter,
    /// TLS handshakes that came to their end, and those of them that a ticket made short.
    pub(crate) handshakes: Counter,
    pub(crate) resumed: Counter,
    /// Sessions of layer 4 that have ended, by [`End::index`], and what went from clients to endpoints and back.
    pub(crate) sessions: [Counter; End::WORDS.len()],
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    /// Datagrams that went from clients to endpoints, back, and nowhere.
    pub(crate) datagrams: [Counter; 3],
}

/// What is counted of an upstream.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCounters {
    pub(crate) retries: Counter,
    /// Retries that the budget did not allow.
    pub(crate) retries_refused: Counter,
    /// Requests refused at a limit of the upstream, by [`Limit`].
    pub(crate) limited: [Counter; Limit::ALL.len()],
    /// Copies of requests that go elsewhere, by [`CopyOutcome`], and those under way.
    pub(crate) copies: [Counter; CopyOutcome::ALL.len()],
    pub(crate) copies_in_flight: Counter,
}

/// What is counted of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct EndpointCounters {
    pub(crate) in_flight: Counter,
    pub(crate) requests: Counter,
    pub(crate) failures: Counter,
    pub(crate) connects: Counter,
    pub(crate) reused: Counter,
    pub(crate) idle: Counter,
    pub(crate) answers: Counter,
    /// Of the waits for answers, in microseconds.
    pub(crate) latency_sum: Counter,
    /// Peak EWMA of this worker, in microseconds.
    pub(crate) latency: Counter,
    /// Answers that took longer than the upstream's `outlier.latency.least`.
    pub(crate) late: Counter,
    pub(crate) waiting: Waiting,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let counters = WorkerCounters::default();
        for micros in [0, 100, 101, 30_000_001] {
            counters.observe(micros);
        }
        assert_eq!((counters.latency[0].get(), counters.latency[1].get()), (2, 1));
        assert_eq!(counters.latency[BOUNDS.len()].get(), 1);
        assert_eq!(counters.latency_sum.get(), 30_000_202);
    }

    #[test]
    fn shards_sum() {
        let sharded: Sharded<Counter> = Sharded::new(3);
        (0..3).for_each(|worker| sharded.of(worker).add(worker as u64));
        assert_eq!(sharded.sum(Counter::get), 3);
    }
}
