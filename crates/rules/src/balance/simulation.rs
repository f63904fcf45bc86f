//! Balancers against simulated endpoints, with seeded randomness and a clock that only the simulation moves.

use super::*;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
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

/// One request of a simulation: who took it, when it came and how long it took, in µs.
struct Served {
    endpoint: usize,
    at: f64,
    took: f64,
}

/// `requests` arrivals, `gap` µs apart on average; `service` says how long an endpoint takes for one that comes at a time.
fn run(
    balancer: &Balancer,
    endpoints: &Endpoints,
    (requests, gap): (usize, f64),
    service: impl Fn(usize, f64, &mut Random) -> f64,
) -> Vec<Served> {
    let (start, mut random) = (Instant::now(), Random(7));
    let at = |micros: f64| start + Duration::from_nanos((micros * 1e3) as u64);
    let mut served = Vec::with_capacity(requests);
    let mut running: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    let mut now = 0.0;
    for _ in 0..requests {
        now += gap * random.exponential();
        while let Some(Reverse((end, took, endpoint))) =
            running.peek().copied().filter(|Reverse(next)| next.0 as f64 <= now)
        {
            running.pop();
            endpoints.in_flight[endpoint].update(|count| count - 1);
            endpoints.latency[endpoint].observe(Duration::from_micros(took), at(end as f64));
        }
        let endpoint = balancer.pick(endpoints, &draw(random.next(), at(now))).unwrap();
        endpoints.in_flight[endpoint].update(|count| count + 1);
        let took = service(endpoint, now, &mut random);
        running.push(Reverse(((now + took) as u64, took as u64, endpoint)));
        served.push(Served { endpoint, at: now, took });
    }
    served
}

/// Picks per endpoint where `mean[i]` µs is how long endpoint i takes on average, half of it fixed, half exponentially
/// distributed.
fn simulate(balancer: &Balancer, endpoints: &Endpoints, requests: usize, gap: f64, mean: &[f64]) -> Vec<usize> {
    let served = run(balancer, endpoints, (requests, gap), |endpoint, _, random| {
        mean[endpoint] * (0.5 + 0.5 * random.exponential())
    });
    let mut picks = vec![0; mean.len()];
    served.iter().for_each(|served| picks[served.endpoint] += 1);
    picks
}

const ALL: [Balance; 6] =
    [Balance::P2c, Balance::RoundRobin, Balance::LeastRequests, Balance::PeakEwma, Balance::Random, Balance::First];

fn draw(random: u64, now: Instant) -> Draw {
    Draw { random, now, key: None }
}

fn build(balance: &Balance, weights: &[u32]) -> Balancer {
    let members: Vec<_> = weights.iter().map(|weight| Member { weight: *weight, priority: 0 }).collect();
    Balancer::build(balance, &members, &[])
}

fn p2c(weights: &[u32]) -> Balancer {
    build(&Balance::P2c, weights)
}

#[test]
fn each_policy_comes_close_to_its_ideal() {
    // How far the count of any endpoint may be from the ideal, in percent, without load and with a hundred requests in flight.
    // A draw differs by chance. (Between the two, with about one request in flight for each endpoint, who looks at load strays from
    // the weights: an idle endpoint of little weight goes before a busy one of much.)
    for (balance, idle, loaded) in [
        (Balance::P2c, 3.0, 3.0),
        (Balance::RoundRobin, 0.1, 0.1),
        (Balance::LeastRequests, 3.0, 3.0),
        (Balance::PeakEwma, 3.0, 3.0),
        (Balance::Random, 5.0, 5.0),
    ] {
        for (gap, bound) in [(20_000.0, idle), (2.0, loaded)] {
            for weights in [&[1; 8][..], &[4, 2, 1, 0, 1]] {
                let (count, sum) = (weights.len(), weights.iter().sum::<u32>());
                let balancer = build(&balance, weights);
                let picks = simulate(&balancer, &Endpoints::new(count), 40_000, gap, &vec![200.0; count]);
                let off = picks.iter().zip(weights).map(|(picked, weight)| {
                    let ideal = 40_000.0 * f64::from(*weight) / f64::from(sum);
                    (*picked as f64 - ideal).abs() / ideal.max(1.0) * 100.0
                });
                let most = off.fold(0.0, f64::max);
                println!("{:15} gap {gap:7} µs, weights {weights:?}: {picks:?}, off by {most:.2} %", name(&balance));
                assert!(most <= bound, "{balance:?} gap {gap}: {picks:?}");
            }
        }
    }
}

#[test]
fn the_first_takes_all_until_it_is_down() {
    let (balancer, endpoints) = (build(&Balance::First, &[0, 1, 1]), Endpoints::new(3));
    assert_eq!(simulate(&balancer, &endpoints, 1000, 100.0, &[200.0; 3]), [0, 1000, 0]);
    endpoints.down.borrow_mut().push(1);
    assert_eq!(balancer.pick(&endpoints, &draw(1, Instant::now())), Some(2));
}

/// safety.md 166: one endpoint of eleven takes 2 s for 30 s, at 1000 requests a second; the others take 5 ms.
#[test]
fn a_stalling_endpoint_is_noticed_by_who_looks() {
    const SLOW: std::ops::Range<f64> = 5e6..35e6;
    let table = ALL.iter().filter(|balance| **balance != Balance::First).map(|balance| {
        let served = run(&build(balance, &[1; 11]), &Endpoints::new(11), (95_000, 1000.0), |at, now, random| {
            if at == 4 && SLOW.contains(&now) { 2e6 } else { 5000.0 * (0.5 + 0.5 * random.exponential()) }
        });
        let during: Vec<&Served> = served.iter().filter(|served| SLOW.contains(&served.at)).collect();
        let quick = during.iter().filter(|served| served.took <= 1e6).count();
        let after: Vec<_> = served.iter().filter(|served| served.at > SLOW.end).collect();
        let share = after.iter().filter(|served| served.endpoint == 4).count() as f64 / after.len() as f64;
        (balance.clone(), 100.0 * quick as f64 / during.len() as f64, during.len() - quick, 100.0 * share)
    });
    println!("policy           within 1 s   slow answers   its share in the minute afterwards");
    for (balance, percent, slow, share) in table {
        println!("{:15} {percent:10.3} % {slow:13} {share:10.2} %", name(&balance));
        match balance {
            Balance::P2c | Balance::PeakEwma => assert!(percent >= 99.9, "{balance:?}: {percent} %"),
            Balance::RoundRobin | Balance::Random => assert!(percent < 92.0, "{balance:?}: {percent} %"),
            _ => {}
        }
        if matches!(balance, Balance::P2c | Balance::PeakEwma) {
            assert!(share > 0.1, "{balance:?} never comes back to it");
        }
    }
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
    for balance in ALL {
        let (balancer, endpoints, mut random) = (build(&balance, &[1, 1, 1]), Endpoints::new(3), Random(1));
        *endpoints.avoided.borrow_mut() = vec![0, 1];
        assert!((0..100).all(|_| balancer.pick(&endpoints, &draw(random.next(), now)) == Some(2)));
        endpoints.down.borrow_mut().push(2);
        assert!(
            (0..100).all(|_| balancer.pick(&endpoints, &draw(random.next(), now)).is_some_and(|picked| picked < 2))
        );
        *endpoints.down.borrow_mut() = vec![0, 1, 2];
        assert_eq!(balancer.pick(&endpoints, &draw(1, now)), None);
    }
}

#[test]
fn a_tier_is_used_when_those_below_cannot_be() {
    let now = Instant::now();
    let members = [0, 0, 1, 1, 7].map(|priority| Member { weight: 1, priority });
    let picks = |endpoints: &Endpoints, balance: &Balance| {
        let (balancer, mut random) = (Balancer::build(balance, &members, &[]), Random(3));
        let picked: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| balancer.pick(endpoints, &draw(random.next(), now))).collect();
        picked.into_iter().collect::<Vec<_>>()
    };
    for balance in ALL.iter().filter(|balance| **balance != Balance::First) {
        let endpoints = Endpoints::new(5);
        assert_eq!(picks(&endpoints, balance), [0, 1], "{balance:?}");
        *endpoints.down.borrow_mut() = vec![0];
        assert_eq!(picks(&endpoints, balance), [1], "{balance:?}");
        *endpoints.down.borrow_mut() = vec![0, 1];
        assert_eq!(picks(&endpoints, balance), [2, 3], "{balance:?}");
        // One that refuses is worse than one of a later tier, and better than none.
        *endpoints.down.borrow_mut() = vec![0, 2, 3];
        *endpoints.avoided.borrow_mut() = vec![1];
        assert_eq!(picks(&endpoints, balance), [4], "{balance:?}");
        *endpoints.down.borrow_mut() = vec![0, 2, 3, 4];
        assert_eq!(picks(&endpoints, balance), [1], "{balance:?}");
    }
}

#[test]
fn any_number_of_endpoints_gets_an_answer() {
    let now = Instant::now();
    for (weights, expected) in
        [(&[][..], None), (&[1], Some(0)), (&[0], None), (&[0, 0], None), (&[0, 3], Some(1)), (&[256, 0], Some(0))]
    {
        for balance in ALL {
            for random in [0, u64::MAX, 1 << 32, 0x1234_5678_9abc_def0] {
                let picked = build(&balance, weights).pick(&Endpoints::new(weights.len()), &draw(random, now));
                assert_eq!(picked, expected, "{balance:?} {weights:?}");
            }
        }
    }
}
