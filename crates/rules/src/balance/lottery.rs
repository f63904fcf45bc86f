//! Draws in proportion to weight.

/// Endpoints with as many lots as they have weight.
#[derive(Debug)]
pub(super) struct Lottery {
    /// By endpoint: its own lots, and those of all before it.
    lots: Box<[(u32, u32)]>,
    total: u32,
}

impl Lottery {
    pub(super) fn new(weights: &[u32]) -> Lottery {
        let mut total = 0u32;
        let lots = weights.iter().map(|weight| {
            let before = total;
            total = total.saturating_add(*weight);
            (*weight, before)
        });
        Lottery { lots: lots.collect(), total }
    }

    /// One endpoint; `None` if no weight is above 0. `random` has 32 bits.
    #[inline]
    pub(super) fn one(&self, random: u64) -> Option<usize> {
        (self.total > 0).then(|| self.at(scaled(random, self.total)))
    }

    /// Two different endpoints; one, if only one has any weight.
    #[inline]
    pub(super) fn two(&self, random: u64) -> Option<(usize, Option<usize>)> {
        let (high, low) = (random >> 32, random & u64::from(u32::MAX));
        let first = self.one(high)?;
        let (weight, before) = *self.lots.get(first)?;
        let rest = self.total - weight;
        let place = scaled(low, rest);
        let second = self.at(if place < before { place } else { place + weight });
        Some((first, (rest > 0).then_some(second)))
    }

    /// One of the endpoints that are open; visits all of them. `random` has 32 bits.
    pub(super) fn one_open(&self, open: &impl Fn(usize) -> bool, random: u64) -> Option<usize> {
        let opened = || self.lots.iter().enumerate().filter(|(at, (weight, _))| *weight > 0 && open(*at));
        let mut place = scaled(random, opened().map(|(_, (weight, _))| *weight).sum());
        for (at, (weight, _)) in opened() {
            match place.checked_sub(*weight) {
                Some(left) => place = left,
                None => return Some(at),
            }
        }
        None
    }

    /// Whose lot a place is.
    #[inline]
    fn at(&self, place: u32) -> usize {
        self.lots.partition_point(|(weight, before)| before + weight <= place)
    }
}

/// A place in `0..total` for a number of 32 bits.
#[inline]
fn scaled(random: u64, total: u32) -> u32 {
    (((random & u64::from(u32::MAX)) * u64::from(total)) >> 32) as u32
}

/// Other bits of the same randomness (the finaliser of SplitMix64), so that a second draw does not repeat the first.
pub(super) fn mixed(random: u64) -> u64 {
    let random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    random ^ (random >> 31)
}
