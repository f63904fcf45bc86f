//! The rule against simulated endpoints, with seeded randomness and a clock that only the simulation moves.

use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const RULES: LatencyOutlier = LatencyOutlier { factor_percent: 300, least: Duration::from_millis(100) };
/// The runtime looks so often whether a window is over.
const LOOK: f64 = 0.1;
const QUICK: f64 = 0.005;

struct Random(u64);

impl Random {
    /// SplitMix64, as a fraction.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What one endpoint has counted. Times are in seconds.
#[derive(Clone, Default)]
struct Counted {
    answers: u64,
    late: u64,
    /// Sum of the waits that are over.
    over: f64,
    /// When those that wait began, summed up, and how many they are.
    began: f64,
    waiting: u64,
}

impl Counted {
    fn waits(&self, now: f64) -> Waits {
        let micros = |seconds: f64| (seconds.max(0.0) * 1e6) as u64;
        Waits {
            answers: self.answers,
            late: self.late,
            waiting: self.waiting,
            micros: micros(self.over + self.waiting as f64 * now - self.began),
        }
    }
}

/// Requests come `rate` a second, for `length` seconds, each to any of the endpoints. `service` says how long one takes at an
/// endpoint, when it comes at a time, with a draw of its own. Who is told, and when.
fn told((endpoints, rate, length): (usize, f64, f64), service: impl Fn(usize, f64, f64) -> f64) -> Vec<(usize, f64)> {
    let (start, mut random, mut watch) = (Instant::now(), Random(11), SlowWatch::default());
    let mut counted = vec![Counted::default(); endpoints];
    let mut running: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    let (mut told, mut now, mut look) = (Vec::new(), 0.0, LOOK);
    while now < length {
        now -= (1.0 - random.fraction()).ln() / rate;
        while look < now {
            end_until(look, &mut running, &mut counted);
            let at = start + Duration::from_secs_f64(look);
            if watch.is_due(at) {
                let waits: Vec<_> = counted.iter().enumerate().map(|(id, one)| (id as u64, one.waits(look))).collect();
                told.extend(watch.look(&RULES, &waits, at).into_iter().map(|endpoint| (endpoint, look)));
            }
            look += LOOK;
        }
        let endpoint = (random.fraction() * endpoints as f64) as usize;
        counted[endpoint].began += now;
        counted[endpoint].waiting += 1;
        let end = now + service(endpoint, now, random.fraction());
        running.push(Reverse(((end * 1e9) as u64, (now * 1e9) as u64, endpoint)));
    }
    told
}

fn end_until(look: f64, running: &mut BinaryHeap<Reverse<(u64, u64, usize)>>, counted: &mut [Counted]) {
    while let Some(Reverse((end, began, endpoint))) = running.peek().copied()
        && end as f64 / 1e9 <= look
    {
        running.pop();
        let counted = &mut counted[endpoint];
        counted.answers += 1;
        counted.late += u64::from(Duration::from_nanos(end - began) > RULES.least);
        counted.over += (end - began) as f64 / 1e9;
        counted.began -= began as f64 / 1e9;
        counted.waiting -= 1;
    }
}

/// safety.md 166: out within a second, whenever the slowness begins, and whether or not an answer has come by then.
#[test]
fn one_of_eleven_that_becomes_slow_is_told_within_a_second() {
    for takes in [0.2, 0.5, 2.0, 60.0] {
        for phase in [0.0, 0.03, 0.05, 0.09, 0.1, 0.13, 0.15, 0.19] {
            let slow_at = 5.0 + phase;
            let told = told((11, 1000.0, 10.0), |at, now, _| if at == 4 && now > slow_at { takes } else { QUICK });
            let (endpoint, at) = told[0];
            println!("{takes} s from {slow_at} s on: told after {:.2} s", at - slow_at);
            assert!(endpoint == 4 && at > slow_at && at - slow_at < 1.0, "{takes} s from {slow_at} s on: {told:?}");
            assert!(told.iter().all(|(endpoint, _)| *endpoint == 4));
        }
    }
}

#[test]
fn nobody_is_told_when_all_become_equally_slow() {
    for endpoints in [2, 3, 11] {
        for takes in [0.15, 2.0, 60.0] {
            let service = |_, now, draw: f64| if now > 5.0 { takes * (0.5 + draw) } else { QUICK };
            assert_eq!(told((endpoints, 1000.0, 90.0), service), [], "{takes} s");
        }
    }
}

#[test]
fn neither_a_pause_nor_long_requests_among_quick_ones_are_told() {
    let pause = |at, now, _| if at == 4 && (5.0..5.5).contains(&now) { 5.5 - now + QUICK } else { QUICK };
    assert_eq!(told((11, 1000.0, 10.0), pause), []);
    for rate in [20.0, 200.0, 1000.0] {
        for (share, takes) in [(0.001, 10.0), (0.01, 2.0), (0.05, 2.0), (0.05, 0.5)] {
            let told = told((4, rate, 600.0), |_, _, draw| if draw < share { takes } else { QUICK });
            assert_eq!(told, [], "{rate} a second, {share} of them {takes} s");
        }
    }
}

#[test]
fn slow_means_against_the_others_and_beyond_the_least() {
    let means = |slow: f64, others: f64| told((3, 300.0, 60.0), |at, _, _| if at == 2 { slow } else { others });
    assert_eq!(means(0.09, 0.001), []);
    assert_eq!(means(0.5, 0.2), []);
    // Where others are slow, too, it takes longer, but not for ever.
    assert!(means(0.5, 0.12).iter().all(|(endpoint, _)| *endpoint == 2));
    assert!(means(0.5, 0.12).len() > 5 && means(3.0, 0.5).len() > 2);
    assert_eq!(told((1, 100.0, 60.0), |_, _, _| 2.0), []);
}

/// One a second to each: windows last until they have seen enough.
#[test]
fn few_requests_take_their_time() {
    let told = told((2, 2.0, 60.0), |at, now, _| if at == 1 && now > 20.0 { 0.5 } else { QUICK });
    assert!(told.first().is_some_and(|(endpoint, at)| *endpoint == 1 && *at > 25.0), "{told:?}");
}
