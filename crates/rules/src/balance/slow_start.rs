//! How the weight of an endpoint grows after it came up.

use std::time::Duration;

/// Weights are counted in hundredths, so that a weight of 1 can grow.
const WHOLE: u32 = 100;
/// What an endpoint begins with, in hundredths of its weight: with nothing it would never get warm.
const LEAST: u32 = 10;

/// Weight, in hundredths, of an endpoint that has been up for `up`: it grows in a straight line from a tenth to the whole within
/// `slow_start`. `up` is 0 for one that is down, so that it comes back with a tenth.
pub fn grown_weight(weight: u16, slow_start: Duration, up: Duration) -> u32 {
    let part = if slow_start.is_zero() { 1.0 } else { (up.as_secs_f64() / slow_start.as_secs_f64()).min(1.0) };
    let hundredths = ((f64::from(WHOLE) * part) as u32).max(LEAST);
    u32::from(weight) * hundredths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_grow_in_a_straight_line_from_a_tenth() {
        let half_a_minute = Duration::from_secs(30);
        for (seconds, weight) in [(0, 20), (1, 20), (3, 20), (15, 100), (27, 180), (30, 200), (3000, 200)] {
            assert_eq!(grown_weight(2, half_a_minute, Duration::from_secs(seconds)), weight, "{seconds}");
        }
        assert_eq!(grown_weight(0, half_a_minute, half_a_minute), 0);
        assert_eq!(grown_weight(256, Duration::ZERO, Duration::ZERO), 25_600);
    }
}
