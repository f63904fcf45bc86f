//! Any endpoint, by weight.

use super::lottery::{Lottery, mixed};

/// A draw in proportion to weight, which knows nothing of load.
#[derive(Debug)]
pub(super) struct Random(Lottery);

impl Random {
    pub(super) fn new(weights: &[u32]) -> Random {
        Random(Lottery::new(weights))
    }

    pub(super) fn pick(&self, open: &impl Fn(usize) -> bool, random: u64) -> Option<usize> {
        let drawn = self.0.one(random >> 32)?;
        // Anew among those that are open, as p2c does.
        if open(drawn) { Some(drawn) } else { self.0.one_open(open, mixed(random)) }
    }
}
