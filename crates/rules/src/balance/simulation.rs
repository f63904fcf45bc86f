//! Balancers against simulated endpoints, with seeded randomness and a clock that only the simulation moves.

use super::*;
use std::cell::{Cell, RefCell};
use std::time::Duration;

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Exponentially distributed with mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - (self.next() >> 11) as f64 / (1u64 << 53) as f64).ln()
    }
}

struct Endpoints {
    latency: Vec<Latency>,
    in_flight: Vec<Cell<u32>>,
    down: RefCell<Vec<usize>>,
    avoided: RefCell<Vec<usize>>,
}

impl Endpoints {
    fn new(count: usize) -> Endpoints {
        Endpoints {
            latency: vec![Latency::default(); count],
            in_flight: vec![Cell::default(); count],
            down: RefCell::default(),
            avoided: RefCell::default(),
        }
    }
}

impl Loads for Endpoints {
    fn usable(&self, endpoint: usize) -> bool {
        !self.down.borrow().contains(&endpoint)
    }

    fn avoided(&self, endpoint: usize) -> bool {
        self.avoided.borrow().contains(&endpoint)
    }

    fn in_flight(&self, endpoint: usize) -> u32 {
        self.in_flight[endpoint].get()
    }

    fn latency(&self, endpoint: usize, now: Instant) -> Option<f32> {
        self.latency[endpoint].value(now)
    }
}

/// Picks per endpoint over `requests` arrivals, `gap` µs apart on average; `mean[i]` µs is how long endpoint i takes on average,
/// half of it fixed, half exponentially distributed.
fn simulate(balancer: &Balancer, endpoints: &Endpoints, requests: usize, gap: f64, mean: &[f64]) -> Vec<usize> {
    let (start, mut random) = (Instant::now(), Random(7));
    let at = |micros: f64| start + Duration::from_nanos((micros * 1e3) as u64);
    let mut picks = vec![0; mean.len()];
    let mut running: Vec<(f64, f64, usize)> = Vec::new();
    let mut now = 0.0;
    for _ in 0..requests {
        now += gap * random.exponential();
        running.sort_by(|left, right| right.0.total_cmp(&left.0));
        while let Some((end, took, endpoint)) = running.pop_if(|(end, ..)| *end <= now) {
            endpoints.in_flight[endpoint].update(|count| count - 1);
            endpoints.latency[endpoint].observe(Duration::from_nanos((took * 1e3) as u64), at(end));
        }
        let picked = balancer.pick(endpoints, random.next(), at(now)).unwrap();
        picks[picked] += 1;
        endpoints.in_flight[picked].update(|count| count + 1);
        let took = mean[picked] * (0.5 + 0.5 * random.exponential());
        running.push((now + took, took, picked));
    }
    picks
}

fn p2c(weights: &[u16]) -> Balancer {
    Balancer::build(penstock_plan::Balance::P2c, weights)
}

#[test]
fn low_load_is_even_over_equal_endpoints() {
    for gap in [50.0, 500.0, 20_000.0] {
        let picks = simulate(&p2c(&[1; 8]), &Endpoints::new(8), 10_000, gap, &[200.0; 8]);
        assert!(picks.iter().all(|count| (1125..=1375).contains(count)), "gap {gap}: {picks:?}");
    }
}

#[test]
fn weights_are_respected() {
    // Under load, latency and queues may say otherwise: that is the policy's purpose.
    for gap in [500.0, 2000.0, 20_000.0] {
        let picks = simulate(&p2c(&[4, 2, 1, 0, 1]), &Endpoints::new(5), 40_000, gap, &[200.0; 5]);
        for (count, ideal) in picks.iter().zip([20_000.0, 10_000.0, 5000.0, 0.0, 5000.0]) {
            assert!((*count as f64 - ideal).abs() <= ideal * 0.03, "gap {gap}: {picks:?}");
        }
    }
}

#[test]
fn a_slow_endpoint_gets_little() {
    let mut mean = [200.0; 11];
    mean[4] = 50_000.0;
    let picks = simulate(&p2c(&[1; 11]), &Endpoints::new(11), 50_000, 100.0, &mean);
    assert!(picks[4] < 100, "{picks:?}");
}

#[test]
fn one_that_comes_back_is_not_flooded() {
    let (balancer, endpoints) = (p2c(&[1; 4]), Endpoints::new(4));
    endpoints.down.borrow_mut().push(2);
    let without = simulate(&balancer, &endpoints, 9000, 1000.0, &[200.0; 4]);
    assert_eq!(without[2], 0);
    assert!(without.iter().enumerate().all(|(at, count)| at == 2 || (2700..=3300).contains(count)), "{without:?}");
    endpoints.in_flight.iter().for_each(|count| count.set(0));
    endpoints.down.borrow_mut().clear();
    let with = simulate(&balancer, &endpoints, 400, 1000.0, &[200.0; 4]);
    assert!((90..=130).contains(&with[2]), "{with:?}");
}

#[test]
fn avoided_endpoints_are_the_last_resort() {
    let now = Instant::now();
    for balance in [penstock_plan::Balance::P2c, penstock_plan::Balance::RoundRobin] {
        let (balancer, endpoints, mut random) = (Balancer::build(balance, &[1, 1, 1]), Endpoints::new(3), Random(1));
        *endpoints.avoided.borrow_mut() = vec![0, 1];
        assert!((0..100).all(|_| balancer.pick(&endpoints, random.next(), now) == Some(2)));
        endpoints.down.borrow_mut().push(2);
        assert!((0..100).all(|_| balancer.pick(&endpoints, random.next(), now).is_some_and(|picked| picked < 2)));
        *endpoints.down.borrow_mut() = vec![0, 1, 2];
        assert_eq!(balancer.pick(&endpoints, 1, now), None);
    }
}

#[test]
fn any_number_of_endpoints_gets_an_answer() {
    let now = Instant::now();
    for (weights, expected) in
        [(&[][..], None), (&[1], Some(0)), (&[0], None), (&[0, 0], None), (&[0, 3], Some(1)), (&[256, 0], Some(0))]
    {
        for balance in [penstock_plan::Balance::P2c, penstock_plan::Balance::RoundRobin] {
            for random in [0, u64::MAX, 1 << 32, 0x1234_5678_9abc_def0] {
                let picked = Balancer::build(balance, weights).pick(&Endpoints::new(weights.len()), random, now);
                assert_eq!(picked, expected, "{balance:?} {weights:?}");
            }
        }
    }
}
