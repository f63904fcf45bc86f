//! Peak-EWMA latency.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A moving average of latencies that forgets peaks slowly and never hides one: a sample above the average replaces it at once,
/// a sample below pulls it down with the weight of the time that passed. The idea is Finagle's `PeakEwma` load balancer
/// (Twitter, 2015).
///
/// Unused, it decays towards 0 the faster the longer that lasts, so that an endpoint that was slow once is tried again: where
/// others answer within 10 ms, one answer after 2 s keeps requests away for 19 s. An even decay would for 53 s.
///
/// A cell: one worker's view of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    micros: Cell<f64>,
    /// Of the last sample; `None` before the first.
    at: Cell<Option<Instant>>,
}

/// After this long of use without a new peak, 1/e of the old one is left.
const DECAY: Duration = Duration::from_secs(10);

impl Latency {
    /// Take in a sample, the time from the request's last byte to the first of its answer; the average with it, in microseconds.
    pub fn observe(&self, sample: Duration, now: Instant) -> f64 {
        let sample = sample.as_secs_f64() * 1e6;
        let average = match self.at.get() {
            Some(at) if sample < self.micros.get() => {
                let kept = kept(at, now);
                self.micros.get() * kept + sample * (1.0 - kept)
            }
            _ => sample,
        };
        self.micros.set(average);
        self.at.set(Some(now));
        average
    }

    /// What was seen so far says nothing of the endpoint any more.
    pub fn forget(&self) {
        self.at.set(None);
    }

    /// The average at `now`, in microseconds; `None` before the first sample.
    #[inline]
    pub fn value(&self, now: Instant) -> Option<f32> {
        self.at.get().map(|at| (self.micros.get() * kept(at, now)) as f32)
    }
}

/// How much of the average is left. Of short times, which are those between the samples of an endpoint in use, the square does
/// not count.
#[inline]
fn kept(since: Instant, now: Instant) -> f64 {
    let age = now.saturating_duration_since(since).as_secs_f64() / DECAY.as_secs_f64();
    // Most reads come shortly after the last sample: three terms of the series are then right to six digits, and spare the
    // exponential.
    if age < 0.01 { 1.0 - age - age * age / 2.0 } else { (-age - age * age).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a peak, after [`DECAY`] without any sample.
    const LEFT: f32 = 1.0 / (std::f32::consts::E * std::f32::consts::E);

    #[test]
    fn peaks_count_at_once_and_fade() {
        let (start, latency) = (Instant::now(), Latency::default());
        assert_eq!(latency.value(start), None);
        latency.observe(Duration::from_millis(1), start);
        assert_eq!(latency.value(start), Some(1000.0));
        latency.observe(Duration::from_millis(50), start);
        assert_eq!(latency.value(start), Some(50_000.0));
        assert!((latency.value(start + DECAY / 100).unwrap() - 50_000.0 * (-0.0101f32).exp()).abs() < 1.0);
        let later = start + DECAY;
        assert!((latency.value(later).unwrap() - 50_000.0 * LEFT).abs() < 10.0);
        let forgotten = latency.clone();
        forgotten.forget();
        assert_eq!(forgotten.value(later), None);
        forgotten.observe(Duration::from_millis(2), later);
        assert_eq!(forgotten.value(later), Some(2000.0));
        latency.observe(Duration::from_millis(1), later);
        let value = latency.value(later).unwrap();
        assert!((value - (50_000.0 * LEFT + 1000.0 * (1.0 - LEFT))).abs() < 10.0, "{value}");
    }

    #[test]
    fn one_slow_answer_does_not_keep_an_endpoint_away_for_a_minute() {
        let (start, latency) = (Instant::now(), Latency::default());
        latency.observe(Duration::from_secs(2), start);
        let seconds = |seconds| latency.value(start + Duration::from_secs(seconds)).unwrap() / 1000.0;
        assert!(seconds(1) > 1700.0 && seconds(18) > 10.0 && seconds(19) < 10.0);
    }

    #[test]
    fn many_quick_samples_pull_a_peak_down_as_few_do() {
        let (start, latency) = (Instant::now(), Latency::default());
        latency.observe(Duration::from_millis(50), start);
        for n in 1..=100_000 {
            latency.observe(Duration::from_millis(1), start + DECAY * n / 100_000);
        }
        let expected = 1000.0 + 49_000.0 / std::f32::consts::E;
        assert!((latency.value(start + DECAY).unwrap() - expected).abs() < 10.0);
    }
}
