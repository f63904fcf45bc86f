//! Highest random weight (Thaler and Ravishankar, 1998), with weights by the logarithmic method (Schindelhauer and Schomaker, 2005).

use super::address_hash;

/// Every endpoint gives a key a score, the highest wins: no table, time in proportion to the endpoints.
#[derive(Debug)]
pub(crate) struct Rendezvous(Box<[(u64, f64)]>);

impl Rendezvous {
    /// Over members with a name, which is an endpoint's address, and a weight each; one of weight 0 has no keys.
    pub(crate) fn build<'a>(members: impl Iterator<Item = (&'a str, u32)>) -> Rendezvous {
        Rendezvous(members.map(|(name, weight)| (address_hash(name, 0), f64::from(weight))).collect())
    }

    /// The open member of the best score for the key.
    pub(crate) fn find(&self, key: u64, open: impl Fn(usize) -> bool) -> Option<usize> {
        let opened = self.0.iter().enumerate().filter(|(at, (_, weight))| *weight > 0.0 && open(*at));
        let scored = opened.map(|(at, (address, weight))| {
            let mixed = mixed(key, *address);
            // Of two equal scores, the one with the greater hash, so that the order of the list decides nothing.
            (at, minus_ln(mixed) / weight, *address)
        });
        let lowest = scored.min_by(|left, right| left.1.total_cmp(&right.1).then(right.2.cmp(&left.2)));
        lowest.map(|(at, ..)| at)
    }
}

/// Key and endpoint as one number (the finaliser of SplitMix64 over both).
fn mixed(key: u64, address: u64) -> u64 {
    let mixed = key ^ address;
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// -ln of a number read as a fraction of 2^64: exponentially distributed for uniform numbers.
///
/// Written in additions, multiplications and divisions, which IEEE 754 rounds alike everywhere; the logarithms of C libraries
/// differ in their last bits.
fn minus_ln(number: u64) -> f64 {
    const LN_2: f64 = std::f64::consts::LN_2;
    let number = (number >> 12) + 1;
    let halvings = 64 - number.leading_zeros();
    // In 0.5 to 1, times 2^halvings.
    let part = number as f64 / (1u64 << halvings) as f64;
    let ratio = (part - 1.0) / (part + 1.0);
    let square = ratio * ratio;
    let series = [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0];
    let series = series.iter().fold(1.0 / 23.0, |sum, odd| sum * square + 1.0 / odd);
    let ln = 2.0 * (ratio + ratio * square * series);
    (52.0 - f64::from(halvings)) * LN_2 - ln
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for number in [u64::MAX, u64::MAX / 2, u64::MAX / 3, u64::MAX / 1000, 1 << 40, 1 << 12] {
            let expected = -(((number >> 12) + 1) as f64 / (1u64 << 52) as f64).ln();
            assert!((minus_ln(number) - expected).abs() < 1e-9, "{number}: {} {expected}", minus_ln(number));
        }
    }
}
