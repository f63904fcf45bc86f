//! Consistent hashing (Karger et al., 1997): endpoints have points on a circle, a key goes to the next point.

use super::address_hash;

/// Points in the order of the circle, each with its endpoint.
#[derive(Debug)]
pub(super) struct Ring(Box<[(u64, u32)]>);

/// Points for each unit of weight: shares of equal endpoints then differ by about two percent of themselves.
const POINTS: u64 = 2048;
/// Points of all endpoints (16 MB); beyond, all are given half as many, and half again.
const MOST: u64 = 1 << 20;

impl Ring {
    pub(super) fn build(members: &[(String, u16)]) -> Ring {
        let wanted: u64 = members.iter().map(|(_, weight)| POINTS * u64::from(*weight)).sum();
        let halvings = (0..).find(|halvings| wanted >> halvings <= MOST).unwrap_or_default();
        let points = |(endpoint, (address, weight)): (u32, &(String, u16))| {
            let count = match weight {
                0 => 0,
                weight => ((POINTS * u64::from(*weight)) >> halvings).max(1),
            };
            let address = address.clone();
            (0..count).map(move |number| (address_hash(&address, 3 + number), endpoint))
        };
        let mut points: Vec<_> = (0..).zip(members).flat_map(points).collect();
        // Of two endpoints on one point, the one whose address comes first: not the order of the list.
        let address = |endpoint: u32| members.get(endpoint as usize).map(|(address, _)| address);
        points.sort_by(|left, right| left.0.cmp(&right.0).then_with(|| address(left.1).cmp(&address(right.1))));
        Ring(points.into())
    }

    pub(super) fn find(&self, key: u64, members: usize, open: impl Fn(usize) -> bool) -> Option<usize> {
        let next = self.0.partition_point(|(point, _)| *point < key);
        let (before, behind) = self.0.split_at_checked(next)?;
        let mut clockwise = behind.iter().chain(before).map(|(_, endpoint)| *endpoint as usize);
        let first = clockwise.next()?;
        if open(first) {
            return Some(first);
        }
        if !(0..members).any(&open) {
            return None;
        }
        clockwise.find(|endpoint| open(*endpoint))
    }
}
