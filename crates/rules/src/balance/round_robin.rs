//! Smooth weighted round robin.

use std::cell::Cell;

/// Every endpoint in turn. With unequal weights, each pick credits every endpoint that is open with its weight, takes the one
/// with the most credit, and charges it the sum of all that was credited: endpoints come in proportion to their weights, and the
/// picks of a heavy one lie spread between the others' (nginx, 2012).
#[derive(Debug)]
pub(super) struct RoundRobin {
    weights: Box<[u32]>,
    /// Equal weights need no credit, only a place in the circle.
    equal: bool,
    next: Cell<usize>,
    credit: Box<[Cell<i64>]>,
}

impl RoundRobin {
    pub(super) fn new(weights: &[u32]) -> RoundRobin {
        RoundRobin {
            weights: weights.into(),
            equal: weights.windows(2).all(|pair| pair.first() == pair.last()),
            next: Cell::new(0),
            credit: weights.iter().map(|_| Cell::new(0)).collect(),
        }
    }

    pub(super) fn pick(&self, open: &impl Fn(usize) -> bool) -> Option<usize> {
        if self.equal { self.rotate(open) } else { self.weigh(open) }
    }

    fn rotate(&self, open: &impl Fn(usize) -> bool) -> Option<usize> {
        let (next, count) = (self.next.get(), self.weights.len());
        let picked = (next..count).chain(0..next.min(count)).find(|endpoint| open(*endpoint))?;
        self.next.set(picked + 1);
        Some(picked)
    }

    fn weigh(&self, open: &impl Fn(usize) -> bool) -> Option<usize> {
        let (mut total, mut best) = (0, None);
        for (at, (weight, credit)) in self.weights.iter().zip(&self.credit).enumerate() {
            if *weight == 0 || !open(at) {
                continue;
            }
            total += i64::from(*weight);
            credit.set(credit.get() + i64::from(*weight));
            if best.is_none_or(|(_, most): (usize, &Cell<i64>)| credit.get() > most.get()) {
                best = Some((at, credit));
            }
        }
        let (picked, credit) = best?;
        credit.set(credit.get() - total);
        Some(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weights: &[u32], count: usize) -> Vec<usize> {
        let policy = RoundRobin::new(weights);
        (0..count).filter_map(|_| policy.pick(&|_| true)).collect()
    }

    #[test]
    fn picks_are_spread_smoothly() {
        assert_eq!(picks(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(picks(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(picks(&[2, 0, 1], 3), [0, 2, 0]);
        assert!(picks(&[], 1).is_empty());
    }

    #[test]
    fn closed_endpoints_are_passed_over() {
        let policy = RoundRobin::new(&[1, 1, 1]);
        let picked: Vec<_> = (0..4).filter_map(|_| policy.pick(&|endpoint| endpoint != 1)).collect();
        assert_eq!(picked, [0, 2, 0, 2]);
        assert_eq!(policy.pick(&|_| false), None);
    }
}
