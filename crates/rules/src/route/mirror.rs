//! Which requests are copied to a further upstream, and what says of a copy that it is one.

use super::{Test, View};
use crate::fault::Fault;
use crate::http::{Length, RequestHead};
use crate::list::Lists;

/// Bytes of a body that a copy has at most: it is kept until it is whole, because nobody waits for a copy.
pub const MOST: usize = 64 << 10;

/// The field that says of a request that it is a copy, and that nobody waits for its answer.
pub const MARK: &str = "x-mirrored";

/// A compiled [`penstock_plan::Mirror`].
#[derive(Debug)]
pub struct Mirror {
    upstream: u32,
    of_10000: u16,
    when: Option<Test>,
}

impl Mirror {
    /// Compile `plan`, whose place is `path`.
    ///
    /// # Errors
    /// All faults of its expression.
    pub fn build(plan: &penstock_plan::Mirror, path: &str, lists: &Lists) -> Result<Mirror, Vec<Fault>> {
        let test = plan.when.as_ref();
        let test = test.map(|when| Test::compile(&when.predicate, format_args!("{path}.when"), lists)).transpose()?;
        Ok(Mirror { upstream: plan.upstream, of_10000: plan.of_10000, when: test })
    }

    /// Index of the upstream that gets the copies.
    pub fn upstream(&self) -> u32 {
        self.upstream
    }

    /// Whether this request is copied; `random` draws it.
    pub fn wants(&self, view: &View<'_>, random: u64) -> bool {
        random % 10_000 < u64::from(self.of_10000) && self.may_want(view)
    }

    /// Whether a request like this one may be drawn. One that asks for another protocol has an answer that somebody must take part in.
    pub fn may_want(&self, view: &View<'_>) -> bool {
        !view.head.options.upgrade && self.when.as_ref().is_none_or(|when| when.matches(view))
    }
}

/// Whether a body of this length may be kept.
pub fn fits(length: Length) -> bool {
    !matches!(length, Length::Bytes(bytes) if bytes > MOST as u64)
}

/// Make a copy of what goes to the first upstream.
pub fn copy(head: &RequestHead) -> RequestHead {
    let mut copy = head.clone();
    copy.fields.set(MARK, "1");
    // Its body is at hand: nobody has to ask for it.
    copy.options.expect_continue = false;
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn mirror(of_10000: u16, when: Value) -> Mirror {
        let plan = json!({"upstream": 3, "of_10000": of_10000, "when": when});
        Mirror::build(&serde_json::from_value(plan).unwrap(), "routes[0].mirror", &Lists::default()).unwrap()
    }

    fn wanted(mirror: &Mirror, head: &RequestHead) -> usize {
        let view = View::of(head);
        (0..20_000u64).filter(|random| mirror.wants(&view, random.wrapping_mul(7919))).count()
    }

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        RequestHead::compose("GET", "/", "shop.example", &fields).unwrap()
    }

    #[test]
    fn the_share_is_kept_to_a_hundredth_of_a_percent() {
        for (of_10000, count) in [(0, 0), (1, 2), (1000, 2000), (9999, 19_998), (10_000, 20_000)] {
            assert_eq!(wanted(&mirror(of_10000, Value::Null), &head(&[])), count);
        }
    }

    #[test]
    fn only_what_the_expression_names_is_copied_and_no_upgrade() {
        let named = json!({"text": "", "predicate": {"exists": {"field": {"header": "x-a"}, "at": [0, 1]}}});
        let mirror = mirror(10_000, named);
        assert_eq!(wanted(&mirror, &head(&[])), 0);
        assert_eq!(wanted(&mirror, &head(&[("X-A", "")])), 20_000);
        assert_eq!(wanted(&mirror, &head(&[("X-A", ""), ("Connection", "upgrade"), ("Upgrade", "x")])), 0);
    }

    #[test]
    fn a_copy_says_that_it_is_one_whatever_the_client_said() {
        let copy = copy(&head(&[("X-Mirrored", "0"), ("X-B", "2")]));
        assert_eq!(copy.fields.all(MARK).collect::<Vec<_>>(), [b"1"]);
        assert_eq!(copy.fields.get("x-b"), Some(&b"2"[..]));
    }

    #[test]
    fn a_body_that_is_announced_too_long_is_not_kept() {
        assert!(fits(Length::Bytes(MOST as u64)) && fits(Length::Chunked) && fits(Length::None));
        assert!(!fits(Length::Bytes(MOST as u64 + 1)));
    }
}
