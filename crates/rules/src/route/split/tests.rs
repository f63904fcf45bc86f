use super::*;
use crate::http::RequestHead;
use serde_json::{Value as Json, json};
use std::collections::HashMap;

const KEYS: usize = 30_000;

/// A split over upstreams of these names and weights, by the cookie `user`.
fn split(shares: &[(&str, u32)], named_by: &Json) -> Result<Split, Vec<String>> {
    let weights: Vec<_> =
        shares.iter().enumerate().map(|(at, (_, weight))| json!({"upstream": at, "weight": weight})).collect();
    let plan = json!({"shares": weights, "key": [{"field": {"cookie": "user"}}], "override": named_by});
    Split::build(&serde_json::from_value(plan).unwrap(), |at| shares[at as usize].0, "split")
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

/// The share of a request with these fields.
fn assigned(split: &Split, fields: &[(&str, &str)]) -> Option<(u32, Reason)> {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let head = RequestHead::compose("GET", "/", "shop.example", &fields).unwrap();
    split.assigned(&View::of(&head))
}

/// The name of each key's share.
fn homes<'s>(shares: &[(&'s str, u32)]) -> Vec<&'s str> {
    let split = split(shares, &Json::Null).unwrap();
    let home = |user| {
        let (upstream, reason) = assigned(&split, &[("cookie", &format!("user=u{user}"))]).unwrap();
        assert_eq!(reason, Reason::Key);
        shares[upstream as usize].0
    };
    (0..KEYS).map(home).collect()
}

/// What part of all keys is where it was not before, and where these keys are and were.
fn moved<'s>(before: &[(&'s str, u32)], after: &[(&'s str, u32)]) -> (f64, Vec<(&'s str, &'s str)>) {
    let moves: Vec<_> = homes(before).into_iter().zip(homes(after)).filter(|(from, to)| from != to).collect();
    (moves.len() as f64 / KEYS as f64, moves)
}

/// The part of all keys that must move: half of what the shares differ by.
fn must_move(before: &[(&str, u32)], after: &[(&str, u32)]) -> f64 {
    let parts = |shares: &[(&str, u32)]| -> HashMap<String, f64> {
        let total: u32 = shares.iter().map(|(_, weight)| weight).sum();
        shares.iter().map(|(name, weight)| ((*name).to_owned(), f64::from(*weight) / f64::from(total))).collect()
    };
    let (before, after) = (parts(before), parts(after));
    let part = |parts: &HashMap<String, f64>, name: &String| parts.get(name).copied().unwrap_or_default();
    let gone = before.keys().map(|name| (part(&before, name) - part(&after, name)).max(0.0));
    gone.sum()
}

/// Five standard deviations of a part of `KEYS` keys.
fn noise(part: f64) -> f64 {
    5.0 * (part * (1.0 - part) / KEYS as f64).sqrt()
}

#[test]
fn keys_are_spread_by_weight() {
    for shares in
        [vec![("blue", 90), ("green", 10)], vec![("a", 1), ("b", 1), ("c", 1)], vec![("a", 999), ("b", 1), ("c", 0)]]
    {
        let homes = homes(&shares);
        let total: u32 = shares.iter().map(|(_, weight)| weight).sum();
        for (name, weight) in &shares {
            let (ideal, found) =
                (f64::from(*weight) / f64::from(total), homes.iter().filter(|home| *home == name).count());
            let found = found as f64 / KEYS as f64;
            assert!((found - ideal).abs() <= noise(ideal), "{name} of {shares:?}: {found} for {ideal}");
        }
    }
}

#[test]
fn one_changed_weight_moves_no_key_that_need_not_move() {
    for (before, after, changed) in [
        (vec![("blue", 95), ("green", 5)], vec![("blue", 95), ("green", 20)], "green"),
        (vec![("blue", 90), ("green", 10)], vec![("blue", 50), ("green", 50)], "green"),
        (vec![("a", 5), ("b", 3), ("c", 2)], vec![("a", 5), ("b", 3), ("c", 9)], "c"),
        (vec![("a", 5), ("b", 3), ("c", 2)], vec![("a", 5), ("b", 3), ("c", 0)], "c"),
        (vec![("a", 5), ("b", 3)], vec![("c", 2), ("b", 3), ("a", 5)], "c"),
        (vec![("a", 5), ("b", 3)], vec![("b", 6), ("a", 10)], ""),
    ] {
        let (part, moves) = moved(&before, &after);
        let least = must_move(&before, &after);
        assert!((part - least).abs() <= noise(least), "{before:?} to {after:?}: {part} for {least}");
        assert!(moves.iter().all(|(from, to)| [*from, *to].contains(&changed)), "{before:?} to {after:?}");
    }
}

#[test]
fn several_changed_weights_move_at_most_what_no_rule_can_better() {
    for (before, after) in [
        (vec![("a", 5), ("b", 3), ("c", 2)], vec![("a", 3), ("b", 5), ("c", 2)]),
        (vec![("a", 5), ("b", 3), ("c", 2)], vec![("a", 2), ("b", 3), ("c", 5)]),
        (vec![("a", 1), ("b", 1), ("c", 1), ("d", 1)], vec![("a", 4), ("b", 1), ("c", 3), ("d", 2)]),
    ] {
        let (part, least) = (moved(&before, &after).0, must_move(&before, &after));
        let most = 2.0 * least / (1.0 + least);
        assert!(part <= most + noise(most), "{before:?} to {after:?}: {part}, at least {least}, at most {most}");
    }
}

/// A change here moves the users of everybody's canaries.
#[test]
fn shares_are_the_same_on_every_machine() {
    let homes = homes(&[("blue", 1), ("green", 1), ("red", 1)]);
    assert_eq!(homes[..8], ["red", "blue", "green", "red", "green", "red", "green", "blue"]);
}

#[test]
fn a_request_that_names_its_share_gets_it() {
    let values = json!([["blue", 0], ["green", 1], ["never", 0]]);
    let split =
        split(&[("blue", 1), ("green", 0)], &json!({"header": "x-canary", "cookie": "canary", "values": values}))
            .unwrap();
    let find = |fields: &[(&str, &str)]| assigned(&split, fields).map(|(upstream, reason)| (upstream, reason.word()));
    assert_eq!(find(&[("X-Canary", "green")]), Some((1, "header")));
    assert_eq!(find(&[("X-Canary", "never"), ("Cookie", "canary=green")]), Some((0, "header")));
    assert_eq!(find(&[("X-Canary", "other"), ("Cookie", "a=b; canary=green")]), Some((1, "cookie")));
    assert_eq!(find(&[("X-Canary", "green"), ("X-Canary", "blue"), ("Cookie", "user=1")]), Some((0, "key")));
    assert_eq!(find(&[("X-Canary", "Green")]), None);
    assert_eq!(find(&[]), None);
}

#[test]
fn whoever_says_nothing_is_drawn_by_weight() {
    let split = split(&[("a", 2), ("b", 0), ("c", 1)], &Json::Null).unwrap();
    let drawn: Vec<_> = (0..6).map(|random| split.drawn(random)).collect();
    assert_eq!(drawn, [0, 0, 2, 0, 0, 2]);
    assert_eq!(split.drawn(u64::MAX), 0);
}

#[test]
fn what_makes_no_split_is_a_fault() {
    let faults = |shares: &[(&str, u32)], named_by: Json| split(shares, &named_by).unwrap_err();
    assert_eq!(faults(&[("a", 0)], Json::Null), ["split.shares: every weight is 0; at least one must be greater"]);
    let nowhere = json!({"header": null, "cookie": null, "values": [["b", 1]]});
    assert_eq!(
        faults(&[("a", 1)], nowhere),
        [
            "split.override: needs a header or a cookie",
            "split.override.values: \"b\" means an upstream that is no share of this split"
        ]
    );
}
