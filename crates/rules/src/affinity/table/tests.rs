use super::*;
use std::collections::VecDeque;

const TTL: Tenths = 100;

/// A multiplier that spreads small numbers over all 64 bits, as a hash with a secret does.
fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn clients_stay_as_long_as_they_are_seen() {
    let mut bonds = Bonds::default();
    assert_eq!(bonds.see(key(1), 0, TTL), None);
    assert_eq!(bonds.bind(key(1), None, 7, 0), (7, true));
    assert_eq!(bonds.see(key(1), 99, TTL), Some(7));
    assert_eq!(bonds.see(key(1), 198, TTL), Some(7));
    assert_eq!(bonds.look(key(1), 297, TTL), Some((7, 198)));
    assert_eq!(bonds.look(key(1), 298, TTL), None);
    assert_eq!((bonds.see(key(1), 298, TTL), bonds.len()), (None, 0));
    // Clocks that were looked at before another's.
    bonds.bind(key(1), None, 7, 50);
    assert_eq!((bonds.see(key(1), 40, TTL), bonds.look(key(1), 50, TTL)), (Some(7), Some((7, 50))));
}

#[test]
fn whoever_binds_first_decides() {
    let mut bonds = Bonds::default();
    assert_eq!(bonds.bind(1, None, 7, 0), (7, true));
    assert_eq!(bonds.bind(1, None, 8, 0), (7, false));
    assert_eq!(bonds.bind(1, Some(7), 8, 0), (8, false));
    assert_eq!(bonds.bind(1, Some(7), 9, 0), (8, false));
    assert!(bonds.remove(1) && !bonds.remove(1));
    assert_eq!(bonds.bind(1, Some(8), 9, 0), (9, true));
}

#[test]
fn those_that_were_not_seen_for_longest_go_first() {
    let mut bonds = Bonds::default();
    for client in 0..4 {
        bonds.bind(key(client), None, client, client as Tenths);
    }
    bonds.see(key(0), 4, TTL);
    assert_eq!(bonds.oldest(), Some(1));
    assert!(bonds.evict());
    assert_eq!(bonds.endpoints().collect::<Vec<_>>(), [0, 3, 2]);
    assert_eq!(bonds.expire(102, TTL, 9), 1);
    assert_eq!(bonds.expire(200, TTL, 1), 1);
    assert_eq!((bonds.expire(200, TTL, 9), bonds.evict(), bonds.oldest()), (1, false, None));
}

#[test]
fn an_endpoint_is_forgotten_with_all_its_clients() {
    let mut bonds = Bonds::default();
    for client in 0..1000 {
        bonds.bind(key(client), None, client % 3, 0);
    }
    assert_eq!((bonds.remove_endpoint(1), bonds.remove_endpoint(1), bonds.len()), (333, 0, 667));
    assert!((0..1000).all(|client| bonds.see(key(client), 0, TTL) == (client % 3 != 1).then_some(client % 3)));
}

/// Against a list that does the same slowly, with chains that grow, places that are used again and keys that share a chain.
#[test]
fn it_does_what_a_list_would_do() {
    let mut bonds = Bonds::default();
    let mut list: VecDeque<(u64, u64, Tenths)> = VecDeque::new();
    let mut dice = 7u64;
    for step in 0..200_000u32 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (client, now) = ((dice >> 33) % 97 * 8, step / 50);
        let found = list.iter().position(|(key, ..)| *key == client);
        match (dice >> 60, found) {
            (0, found) => {
                assert_eq!(bonds.remove(client), found.is_some());
                found.map(|at| list.remove(at));
            }
            (1, _) => {
                let over = list.back().is_some_and(|(.., seen)| now - seen >= 3);
                assert_eq!(bonds.expire(now, 3, 1), usize::from(over));
                if over {
                    list.pop_back();
                }
            }
            (2, _) => assert_eq!(bonds.evict(), list.pop_back().is_some()),
            (_, Some(at)) => {
                let (_, endpoint, seen) = list.remove(at).unwrap();
                let lives = now - seen < 3;
                assert_eq!(bonds.see(client, now, 3), lives.then_some(endpoint), "step {step}");
                if lives {
                    list.push_front((client, endpoint, now));
                }
            }
            (_, None) => {
                assert_eq!(bonds.see(client, now, 3), None);
                assert_eq!(bonds.bind(client, None, dice, now), (dice, true));
                list.push_front((client, dice, now));
            }
        }
        assert_eq!((bonds.len(), bonds.oldest()), (list.len(), list.back().map(|(.., seen)| *seen)));
    }
    assert!(bonds.endpoints().eq(list.iter().map(|(_, endpoint, _)| *endpoint)));
    assert!(list.len() > 20);
}

#[test]
fn memory_is_bounded_by_the_number_of_clients() {
    let mut bonds = Bonds::default();
    for client in 0..100_000u64 {
        bonds.bind(key(client), None, client, 0);
        assert!(bonds.memory() <= bonds.len() * BYTES + 1024, "{} for {}", bonds.memory(), bonds.len());
    }
    let full = bonds.memory();
    for client in 100_000..300_000u64 {
        bonds.evict();
        bonds.bind(key(client), None, client, 0);
    }
    assert_eq!((bonds.memory(), bonds.len()), (full, 100_000));
    while bonds.evict() {}
    assert_eq!(bonds.memory(), 0);
}
