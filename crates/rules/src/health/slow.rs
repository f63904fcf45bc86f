//! Endpoints that answer, but far more slowly than the others of their upstream.

use penstock_plan::LatencyOutlier;
use std::time::Duration;

/// Answers that a mean needs to count.
const LEAST_ANSWERS: u64 = 5;

/// Answers of an endpoint so far, and the sum of the waits for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Number of answers.
    pub answers: u64,
    /// Sum, in microseconds.
    pub micros: u64,
}

/// What is known of the endpoints of one upstream from look to look, a second apart.
#[derive(Debug, Default)]
pub struct SlowWatch {
    before: Vec<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Unique in the process.
    id: u64,
    waits: Waits,
    slow: bool,
}

impl SlowWatch {
    /// Take in what all endpoints have counted; those to be ejected, as indexes, if [`super::may_eject`] allows it. An endpoint is
    /// slow if the mean since the last look is beyond `least` and beyond `factor` times the median of the others' means; what is
    /// slow in two looks in a row is told.
    pub fn look(&mut self, rules: &LatencyOutlier, endpoints: &[(u64, Waits)]) -> Vec<usize> {
        let known = |id: u64| self.before.iter().find(|seen| seen.id == id);
        let means: Vec<Option<Duration>> = endpoints
            .iter()
            .map(|(id, waits)| mean(known(*id).map_or(Waits::default(), |seen| seen.waits), *waits))
            .collect();
        let mut told = Vec::new();
        let mut after = Vec::with_capacity(endpoints.len());
        for (at, (id, waits)) in endpoints.iter().enumerate() {
            let slow = is_slow(rules, &means, at);
            if slow && known(*id).is_some_and(|seen| seen.slow) {
                told.push(at);
            }
            after.push(Seen { id: *id, waits: *waits, slow });
        }
        self.before = after;
        told
    }
}

fn mean(before: Waits, now: Waits) -> Option<Duration> {
    let answers = now.answers.saturating_sub(before.answers);
    let micros = now.micros.saturating_sub(before.micros);
    (answers >= LEAST_ANSWERS).then(|| Duration::from_micros(micros / answers))
}

fn is_slow(rules: &LatencyOutlier, means: &[Option<Duration>], at: usize) -> bool {
    let Some(own) = means.get(at).copied().flatten() else { return false };
    let mut others: Vec<Duration> =
        means.iter().enumerate().filter(|(other, _)| *other != at).filter_map(|(_, mean)| *mean).collect();
    others.sort_unstable();
    // Of an even number the greater of the two in the middle: in doubt for the endpoint.
    let Some(median) = others.get(others.len() / 2) else { return false };
    own > rules.least && own.as_micros() * 100 > median.as_micros() * u128::from(rules.factor_percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: LatencyOutlier = LatencyOutlier { factor_percent: 300, least: Duration::from_millis(100) };

    /// Looks at endpoints that answer 10 times between two looks, each time after so many milliseconds.
    fn looks(rounds: &[&[u64]]) -> Vec<Vec<usize>> {
        let mut watch = SlowWatch::default();
        let mut waits = vec![Waits::default(); rounds[0].len()];
        let look = |round: &&[u64]| {
            for (waits, millis) in waits.iter_mut().zip(*round) {
                *waits = Waits { answers: waits.answers + 10, micros: waits.micros + 10_000 * millis };
            }
            let endpoints: Vec<_> = waits.iter().enumerate().map(|(at, waits)| (at as u64, *waits)).collect();
            watch.look(&RULES, &endpoints)
        };
        rounds.iter().map(look).collect()
    }

    #[test]
    fn slow_twice_in_a_row_against_the_others() {
        let none: Vec<usize> = Vec::new();
        assert_eq!(looks(&[&[10, 10, 400], &[10, 10, 400]]), [none.clone(), vec![2]]);
        assert_eq!(looks(&[&[10, 10, 400], &[10, 10, 20], &[10, 10, 400]]), [none.clone(), none.clone(), none.clone()]);
        // Slow, but so are the others; slow against them, but fast enough.
        assert_eq!(looks(&[&[200, 200, 500], &[200, 200, 500]]), [none.clone(), none.clone()]);
        assert_eq!(looks(&[&[1, 1, 90], &[1, 1, 90]]), [none.clone(), none.clone()]);
        assert_eq!(looks(&[&[400], &[400]]), [none.clone(), none]);
    }

    #[test]
    fn few_answers_say_nothing() {
        let mut watch = SlowWatch::default();
        for round in 1..5 {
            let fast = Waits { answers: 100 * round, micros: 1000 * round };
            let slow = Waits { answers: 4 * round, micros: 4_000_000 * round };
            assert!(watch.look(&RULES, &[(7, fast), (8, slow)]).is_empty());
        }
    }
}
