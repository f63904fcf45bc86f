//! Storms of failures, with a clock that only the simulation moves.

use super::*;
use crate::error::Retry;
use penstock_plan::Retry as Rules;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Requests of one millisecond each, for half a minute.
const REQUESTS: u64 = 30_000;

/// What endpoints see of the requests in each second, first attempts and all, and how many requests went well.
struct Storm {
    attempts: Vec<u64>,
    well: u64,
}

/// Requests that may be repeated come, 1000 a second; `fails` says whether an attempt at a millisecond does.
fn storm(attempts: u8, budgeted: bool, fails: impl Fn(u64, u64) -> bool) -> Storm {
    let rules = Rules {
        attempts,
        per_try_timeout: None,
        on: vec![503],
        least_pause: Duration::from_millis(25),
        most_pause: Duration::from_millis(250),
        buffer: 65_536,
    };
    let start = Instant::now();
    let budget = RetryBudget::new(start);
    let mut random = 7u64;
    let mut found = Storm { attempts: vec![0; 32], well: 0 };
    let mut requests: Vec<Retries<'_>> = (0..REQUESTS).map(|_| Retries::new(&rules, true)).collect();
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = (0..REQUESTS).map(|at| Reverse((at, at as usize))).collect();
    while let Some(Reverse((at, request))) = due.pop() {
        let now = start + Duration::from_millis(at);
        if at == request as u64 {
            budget.request(now);
        }
        found.attempts[(at / 1000) as usize] += 1;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if !fails(at, random >> 32) {
            found.well += 1;
        } else if requests[request].again(Retry::Idempotent) && (!budgeted || budget.try_again(now)) {
            let pause = requests[request].pause(random).as_millis().max(1) as u64;
            due.push(Reverse((at + pause, request)));
        }
    }
    found
}

/// safety.md 165: all endpoints fail for as long as it lasts.
#[test]
fn a_storm_stays_within_the_budget() {
    for attempts in [1, 2, 10] {
        let (with, without) = (storm(attempts, true, |_, _| true), storm(attempts, false, |_, _| true));
        let (load, unbounded): (u64, u64) = (with.attempts.iter().sum(), without.attempts.iter().sum());
        println!(
            "attempts {attempts:2}: {:.3} of the requests' load, {:.1} without a budget",
            load as f64 / REQUESTS as f64,
            unbounded as f64 / REQUESTS as f64
        );
        assert!(load <= REQUESTS * 6 / 5 + 30, "{attempts}: {load}");
        // Nor does any second see more, once the seconds before have spent what they saved.
        assert!(with.attempts[10..30].iter().all(|second| *second <= 1210), "{attempts}: {:?}", with.attempts);
        assert_eq!(unbounded, REQUESTS * (u64::from(attempts) + 1));
    }
}

#[test]
fn the_budget_is_enough_where_one_of_ten_attempts_fails() {
    let found = storm(2, true, |_, random| random % 10 == 0);
    println!("{} of {REQUESTS} went well", found.well);
    assert!(found.well as f64 >= 0.998 * REQUESTS as f64);
}

#[test]
fn after_a_storm_requests_are_tried_again_as_before() {
    let found = storm(2, true, |at, random| (5000..15_000).contains(&at) || random % 10 == 0);
    let after = storm(2, true, |at, random| at >= 26_000 && random % 10 == 0);
    assert!(found.attempts[26..30].iter().sum::<u64>() >= after.attempts[26..30].iter().sum::<u64>() * 99 / 100);
}
