use super::super::{Balance, Balancer, Latency, Loads, Member};
use super::*;
use penstock_plan::{Hash, Key, Operand};
use std::cell::Cell;
use std::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

const METHODS: [HashMethod; 3] = [HashMethod::Maglev, HashMethod::Ring, HashMethod::Rendezvous];
const KEYS: u64 = 10_000;

fn members(count: usize, weight: impl Fn(usize) -> u16) -> Vec<(String, u16)> {
    (0..count).map(|at| (format!("10.0.0.{at}:9000"), weight(at))).collect()
}

fn key(number: u64) -> u64 {
    xxh3_64(format!("/images/{number}.png").as_bytes())
}

/// The address that each key goes to.
fn places(table: &HashTable) -> Vec<&str> {
    (0..KEYS).map(|number| home(table, number)).collect()
}

fn home(table: &HashTable, number: u64) -> &str {
    table.members[table.find(key(number), |_| true).unwrap()].0.as_str()
}

#[test]
fn shares_follow_weights() {
    for method in METHODS {
        for members in [members(10, |_| 1), members(5, |at| [4, 2, 1, 0, 1][at]), members(3, |at| [256, 128, 1][at])] {
            let table = HashTable::build(method, &members);
            // Twice the keys of the other tests: three standard deviations are then one percent.
            let places: Vec<_> = (0..2 * KEYS).map(|number| home(&table, number)).collect();
            let sum: u32 = members.iter().map(|(_, weight)| u32::from(*weight)).sum();
            for (address, weight) in &members {
                let share = places.iter().filter(|place| *place == address).count() as f64 / places.len() as f64;
                let ideal = f64::from(*weight) / f64::from(sum);
                assert!((share - ideal).abs() < 0.02, "{method:?} {address}: {share} of {ideal}");
                assert!(*weight > 0 || share == 0.0);
            }
        }
    }
}

#[test]
fn removing_one_of_n_moves_little_more_than_its_keys() {
    println!("method      N   weights  moved at most over share");
    for method in METHODS {
        let mut worst = (0.0f64, 0, "");
        for count in 2..=50 {
            for (what, weight) in [("equal", (|_| 1) as fn(usize) -> u16), ("1 to 5", |at| 1 + (at % 5) as u16)] {
                if what != "equal" && count % 8 != 2 {
                    continue;
                }
                let all = members(count, weight);
                let before = HashTable::build(method, &all);
                let sum: u32 = all.iter().map(|(_, weight)| u32::from(*weight)).sum();
                let gone = count * 7 / 11;
                let mut rest = all.clone();
                let (_, weight) = rest.remove(gone);
                let after = HashTable::build(method, &rest);
                let moved = places(&before).iter().zip(places(&after)).filter(|(left, right)| **left != *right).count();
                let beyond = moved as f64 / KEYS as f64 - f64::from(weight) / f64::from(sum);
                assert!(beyond <= 0.02, "{method:?} N {count} {what}: {beyond}");
                if beyond > worst.0 {
                    worst = (beyond, count, what);
                }
            }
        }
        println!("{method:?} {} {}: {:.2} %", worst.1, worst.2, worst.0 * 100.0);
    }
}

#[test]
fn the_order_of_the_list_changes_nothing() {
    for method in METHODS {
        let all = members(20, |at| 1 + (at % 3) as u16);
        let mut turned = all.clone();
        turned.rotate_left(7);
        turned.swap(3, 11);
        assert_eq!(places(&HashTable::build(method, &all)), places(&HashTable::build(method, &turned)), "{method:?}");
    }
}

/// Where keys go is part of what users rely on: several machines, several versions.
#[test]
fn tables_are_the_same_on_every_machine() {
    let all = members(7, |at| 1 + (at % 2) as u16);
    let found = METHODS.map(|method| {
        let table = HashTable::build(method, &all);
        (0..12).map(|number| table.find(key(number), |_| true).unwrap().to_string()).collect::<String>()
    });
    assert_eq!(found, ["035531610030", "226311243244", "041550232530"]);
}

#[test]
fn keys_of_one_that_is_down_go_to_all_others_and_come_back() {
    for method in METHODS {
        let table = HashTable::build(method, &members(5, |_| 1));
        let mut taken = [0; 5];
        for number in 0..KEYS {
            let home = table.find(key(number), |_| true).unwrap();
            let found = table.find(key(number), |at| at != 2).unwrap();
            assert!(home == found || home == 2, "{method:?}: a key that was not on it moved");
            taken[found] += usize::from(home == 2);
        }
        let moved: usize = taken.iter().sum();
        assert!(taken.iter().enumerate().all(|(at, count)| at == 2 || *count > moved / 6), "{method:?} {taken:?}");
        assert_eq!(table.find(1, |_| false), None);
        assert_eq!(HashTable::build(method, &[]).find(1, |_| true), None);
        assert_eq!(HashTable::build(method, &members(2, |_| 0)).find(1, |_| true), None);
    }
}

#[test]
fn many_endpoints_have_a_hundred_places_each() {
    let table = HashTable::build(HashMethod::Maglev, &members(1000, |_| 1));
    let places = places(&table);
    assert!(places.iter().collect::<std::collections::HashSet<_>>().len() == 1000);
}

struct Busy(Vec<Cell<u32>>);

impl Loads for Busy {
    fn usable(&self, _: usize) -> bool {
        true
    }
    fn avoided(&self, _: usize) -> bool {
        false
    }
    fn in_flight(&self, endpoint: usize) -> u32 {
        self.0[endpoint].get()
    }
    fn latency(&self, _: usize, now: Instant) -> Option<f32> {
        Latency::default().value(now)
    }
}

fn balancer(method: HashMethod, bounded_load: Option<u32>, count: usize) -> Balancer {
    let hash = Hash { key: Key(vec![Operand::Path]), method, bounded_load };
    let table = Arc::new(HashTable::build(method, &members(count, |_| 1)));
    Balancer::build(&Balance::Hash(hash), &vec![Member { weight: 1, priority: 0 }; count], &[table])
}

#[test]
fn a_bound_keeps_one_hot_key_from_one_endpoint() {
    for method in METHODS {
        for (bound, most) in [(None, 1000), (Some(125), 251), (Some(100), 201)] {
            let (balancer, busy) = (balancer(method, bound, 5), Busy(vec![Cell::new(0); 5]));
            for random in 0..1000 {
                let draw = Draw { random, now: Instant::now(), key: Some(42) };
                let picked = balancer.pick(&busy, &draw).unwrap();
                busy.0[picked].update(|count| count + 1);
            }
            assert!(busy.0.iter().all(|count| count.get() <= most), "{method:?} {bound:?} {:?}", busy.0);
        }
    }
}

#[test]
fn without_a_key_the_better_of_two_is_picked() {
    let (balancer, busy) = (balancer(HashMethod::Maglev, None, 3), Busy(vec![Cell::new(0); 3]));
    let mut random = 7u64;
    for _ in 0..300 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let picked = balancer.pick(&busy, &Draw { random, now: Instant::now(), key: None }).unwrap();
        busy.0[picked].update(|count| count + 1);
    }
    assert!(busy.0.iter().all(|count| count.get() > 80), "{:?}", busy.0);
}
