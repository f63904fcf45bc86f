//! What is done as memory runs short: first what is idle goes, then what is new is refused (safety.md 116). Each step ends only
//! well below where it began, so that it is not taken and left again and again.

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not at all.
    #[default]
    None,
    /// Idle connections and unused buffers go, and connections end with their answer.
    Shedding,
    /// New requests are refused as well.
    Over,
}

/// Hundredths of the limit at which a step begins, and below which it ends.
const SHEDDING: (u64, u64) = (80, 70);
const OVER: (u64, u64) = (90, 85);

impl Pressure {
    /// What follows, when `used` of `limit` bytes are in use. `busy`: requests are under way.
    ///
    /// Nothing is refused while nothing is under way: it would not give back a byte, and a process that is over its limit by
    /// itself would never serve again.
    #[must_use]
    pub fn next(self, used: u64, limit: u64, busy: bool) -> Pressure {
        let part = used.saturating_mul(100) / limit.max(1);
        let mark = |(begin, end): (u64, u64), reached: bool| if reached { end } else { begin };
        if part >= mark(OVER, self == Pressure::Over) && busy {
            Pressure::Over
        } else if part >= mark(SHEDDING, self >= Pressure::Shedding) {
            Pressure::Shedding
        } else {
            Pressure::None
        }
    }
}

/// Bytes that may still be taken before requests are refused; some in any case while nothing is under way.
pub fn room(used: u64, limit: u64, busy: bool) -> u64 {
    let hundredth = limit / 100;
    hundredth.saturating_mul(OVER.0).saturating_sub(used).max(if busy { 0 } else { hundredth })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Pressure::{None, Over, Shedding};

    #[test]
    fn steps_begin_high_and_end_low() {
        let mut pressure = None;
        let mut walk = |used: &[u64]| {
            used.iter()
                .map(|used| {
                    pressure = pressure.next(*used, 100, true);
                    pressure
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(walk(&[0, 79, 80, 75, 70, 69, 79]), [None, None, Shedding, Shedding, Shedding, None, None]);
        assert_eq!(walk(&[90, 89, 85, 84, 89, 90, 69]), [Over, Over, Over, Shedding, Shedding, Over, None]);
        assert_eq!(walk(&[1000, u64::MAX]), [Over, Over]);
    }

    #[test]
    fn nothing_is_refused_for_what_is_not_under_way() {
        assert_eq!(Over.next(200, 100, false), Shedding);
        assert_eq!(Shedding.next(200, 100, true), Over);
        assert_eq!(None.next(5, 0, true), Over);
    }

    #[test]
    fn room_ends_where_refusing_begins() {
        assert_eq!([0, 899, 900, 5000].map(|used| room(used, 1000, true)), [900, 1, 0, 0]);
        assert_eq!([0, 899, 900, 5000].map(|used| room(used, 1000, false)), [900, 10, 10, 10]);
    }
}
