//! The ordered rules of a forward proxy: the first that matches says what becomes of a request; after the last it goes out.

use crate::fault::Fault;
use crate::http::ResponseHead;
use crate::list::{Hit, Lists};
use crate::route::{Refusal, Test, View};
use penstock_plan::{ForwardRule, Verdict};
use std::net::IpAddr;

/// What is known of a request of a forward proxy beside what every request has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errand<'a> {
    /// Who asks, if the client has said and proved it.
    pub user: Option<&'a str>,
    /// The address that is to be connected to; `None` before it is known.
    pub address: Option<IpAddr>,
    /// When, in local time.
    pub moment: Moment,
    /// Whether datagrams are to go there.
    pub datagrams: bool,
    /// What the origin answers; `None` before it has.
    pub response: Option<&'a ResponseHead>,
}

/// A moment in local time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 6, Monday is 0.
    pub weekday: u8,
}

impl Moment {
    /// Of so many seconds since 1970, in whose time zone local time is so many seconds ahead of UTC.
    pub fn of(seconds: i64, ahead: i64) -> Moment {
        let local = seconds.saturating_add(ahead);
        let hour = local.div_euclid(3600).rem_euclid(24);
        // The first of January 1970 was a Thursday.
        let weekday = (local.div_euclid(86_400) + 3).rem_euclid(7);
        Moment { hour: hour as u8, weekday: weekday as u8 }
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As configured, or `rule-2` for the second.
    pub name: String,
    /// What becomes of a request that it takes.
    pub verdict: Verdict,
    /// Whether it is asked when the origin has answered.
    waits: bool,
    /// Bytes a second that go each way of one.
    pub throttle: Option<u64>,
    test: Option<Test>,
    /// It asks for the address.
    resolves: bool,
}

/// What is known of a request before the address of its origin is.
#[derive(Clone, Copy, Debug)]
pub enum Decided<'r> {
    /// This rule takes it, which stands in this place; `None`: it goes out.
    By(Option<(usize, &'r Rule)>),
    /// A rule has to know the address.
    NotYet,
}

impl Rule {
    /// Whether what it takes does not go out.
    pub fn refuses(&self) -> bool {
        matches!(self.verdict, Verdict::Deny(_) | Verdict::Close)
    }

    fn takes(&self, view: &View<'_>) -> bool {
        self.test.as_ref().is_none_or(|test| test.matches(view))
    }

    /// Why it does not take a request that has no answer yet.
    fn refusal(&self, view: &View<'_>) -> Option<Refusal> {
        let refusal = self.test.as_ref()?.refusal(view);
        if self.waits { refusal.or(Some(Refusal { at: None, found: None })) } else { refusal }
    }

    /// Where the first list that it looks into has what it refuses.
    pub fn listed(&self, view: &View<'_>) -> Option<Hit> {
        self.test.as_ref()?.listed(view)
    }

    /// Whether a tunnel that it takes is opened.
    pub fn opens(&self) -> bool {
        self.verdict == Verdict::Intercept
    }
}

/// All rules, in order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// As a plan says, whose part is at `path`, and which has these lists.
    ///
    /// # Errors
    /// All faults of the rules.
    pub fn build(plan: &[ForwardRule], path: &str, lists: &Lists) -> Result<Rules, Vec<Fault>> {
        let (mut rules, mut faults) = (Vec::with_capacity(plan.len()), Vec::new());
        for (at, rule) in plan.iter().enumerate() {
            let place = format!("{path}.rules[{at}].when");
            let test = rule.when.as_ref().map(|when| Test::compile(&when.predicate, &place, lists));
            match test.transpose() {
                Ok(test) => rules.push(Rule {
                    name: rule.name.clone(),
                    verdict: rule.verdict,
                    waits: rule.waits,
                    throttle: rule.throttle,
                    test,
                    resolves: rule.resolves,
                }),
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() { Ok(Rules(rules)) } else { Err(faults) }
    }

    /// The rule that takes the request, of those that do not wait for the answer, and its place; `None`: it goes out.
    pub fn judge(&self, view: &View<'_>) -> Option<(usize, &Rule)> {
        self.0.iter().enumerate().find(|(_, rule)| !rule.waits && rule.takes(view))
    }

    /// Whether some that stand before the one that has taken the request wait for the answer.
    pub fn wait(&self, taken: Option<&Rule>) -> bool {
        self.before(taken).any(|rule| rule.waits)
    }

    /// The rule that takes the answer to a request, of those that wait for it and stand before the one that has taken the request.
    pub fn judge_response<'r>(&'r self, view: &View<'_>, taken: Option<&'r Rule>) -> Option<(usize, &'r Rule)> {
        self.before(taken).enumerate().find(|(_, rule)| rule.waits && rule.takes(view))
    }

    fn before<'r>(&'r self, taken: Option<&'r Rule>) -> impl Iterator<Item = &'r Rule> {
        self.0.iter().take_while(move |rule| taken.is_none_or(|taken| !std::ptr::eq(*rule, taken)))
    }

    /// The rule that takes the request, as far as that can be said without an address.
    pub fn decide(&self, view: &View<'_>) -> Decided<'_> {
        for (at, rule) in self.0.iter().enumerate() {
            if rule.resolves {
                return Decided::NotYet;
            }
            if !rule.waits && rule.takes(view) {
                return Decided::By(Some((at, rule)));
            }
        }
        Decided::By(None)
    }

    /// Whether what becomes of a request can be more than to go out or not.
    pub fn choose_ways(&self) -> bool {
        self.0
            .iter()
            .any(|rule| matches!(rule.verdict, Verdict::Parent(_) | Verdict::Direct) || rule.throttle.is_some())
    }

    /// Those before the one that takes the request, each with the part of its match that says no.
    pub fn passed_over<'r>(&'r self, view: &'r View<'_>) -> impl Iterator<Item = (usize, &'r str, Refusal)> {
        self.0.iter().enumerate().map_while(|(at, rule)| Some((at, rule.name.as_str(), rule.refusal(view)?)))
    }

    /// Where lists have what was looked for, of the rules up to the one that takes the request.
    pub fn hits(&self, view: &View<'_>) -> Vec<Hit> {
        let asked = self.judge(view).map_or(self.0.len(), |(at, _)| at + 1);
        let mut hits: Vec<_> =
            self.0.iter().take(asked).filter_map(|rule| rule.test.as_ref()).flat_map(|test| test.hits(view)).collect();
        hits.dedup();
        hits
    }

    /// Names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| rule.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, RequestHead};
    use serde_json::json;

    fn judged(when: serde_json::Value, errand: Errand<'_>) -> bool {
        let rule = json!({
            "name": "one", "when": {"text": "", "predicate": when}, "waits": false, "verdict": {"deny": 403}, "throttle": null,
            "resolves": false,
        });
        let rules = Rules::build(&[serde_json::from_value(rule).unwrap()], "forward", &Lists::default()).unwrap();
        let mut head = RequestHead::default();
        let limits = HeadLimits { bytes: 1000, fields: 10, uri: 1000, elsewhere: true };
        head.parse(b"GET http://a.example/ HTTP/1.1\r\nHost: a\r\n\r\n", &limits).unwrap();
        rules.judge(&View { errand: Some(&errand), ..View::of(&head) }).is_some()
    }

    #[test]
    fn what_only_an_errand_has_can_be_asked() {
        let compare = |left: serde_json::Value, right: serde_json::Value| json!({"compare": {"left": left, "operator": "==", "right": right, "at": [0, 1]}});
        let moment = Moment { hour: 9, weekday: 6 };
        let errand = Errand { user: Some("dev"), address: Some([10, 0, 0, 1].into()), moment, ..Errand::default() };
        assert!(judged(compare(json!("user"), json!({"text": "dev"})), errand));
        assert!(!judged(compare(json!("user"), json!({"text": "dev"})), Errand { user: None, ..errand }));
        for (datagrams, protocol) in [(false, "tcp"), (true, "udp")] {
            let asked = compare(json!("dest_protocol"), json!({"text": protocol}));
            assert!(judged(asked.clone(), Errand { datagrams, ..errand }));
            assert!(!judged(asked, Errand { datagrams: !datagrams, ..errand }));
        }
        assert!(judged(compare(json!("dest_port"), json!({"number": 80})), errand));
        assert!(judged(compare(json!("time_hour"), json!({"number": 9})), errand));
        assert!(judged(compare(json!("time_weekday"), json!({"number": 6})), errand));
        let inside = json!({"dest_in_networks": {"networks": ["10.0.0.0/8"], "at": [0, 1]}});
        assert!(judged(inside.clone(), errand));
        assert!(!judged(inside, Errand { address: None, ..errand }));
    }

    #[test]
    fn a_moment_is_local() {
        for (seconds, ahead, hour, weekday) in
            [(0, 0, 0, 3), (0, 3600, 1, 3), (0, -3600, 23, 2), (1_796_000_400, 0, 1, 0), (1_796_000_400, -7200, 23, 6)]
        {
            assert_eq!(Moment::of(seconds, ahead), Moment { hour, weekday }, "{seconds} {ahead}");
        }
    }

    #[test]
    fn the_first_that_matches_decides() {
        let rule = |name: &str, when: serde_json::Value, verdict: serde_json::Value| -> ForwardRule {
            let resolves = name == "by-address";
            let rule = json!({"name": name, "when": when, "waits": false, "verdict": verdict, "throttle": null, "resolves": resolves});
            serde_json::from_value(rule).unwrap()
        };
        let host = |host: &str| json!({"text": "", "predicate": {"compare": {"left": "host", "operator": "==", "right": {"text": host}, "at": [0, 1]}}});
        let plan = [
            rule("first", host("a"), json!("allow")),
            rule("second", host("b"), json!("close")),
            rule("third", json!(null), json!({"deny": 451})),
        ];
        let rules = Rules::build(&plan, "forward", &Lists::default()).unwrap();
        let taken = |host: &str| {
            let head = RequestHead::compose("GET", "/", host, &[]).unwrap();
            rules.judge(&View::of(&head)).map(|(at, rule)| (at, rule.verdict))
        };
        assert_eq!(taken("a"), Some((0, Verdict::Allow)));
        assert_eq!(taken("b"), Some((1, Verdict::Close)));
        assert_eq!(taken("c"), Some((2, Verdict::Deny(451))));
        assert!(Rules::default().judge(&View::of(&RequestHead::default())).is_none());
        // A rule that has to know the address ends what can be said without.
        let inside = json!({"text": "", "predicate": {"dest_in_networks": {"networks": ["10.0.0.0/8"], "at": [0, 1]}}});
        let plan = [rule("first", host("a"), json!({"parent": 0})), rule("by-address", inside, json!("close"))];
        let rules = Rules::build(&plan, "forward", &Lists::default()).unwrap();
        let decided = |host: &str| {
            let head = RequestHead::compose("GET", "/", host, &[]).unwrap();
            match rules.decide(&View::of(&head)) {
                Decided::By(found) => Some(found.map(|(at, rule)| (at, rule.verdict))),
                Decided::NotYet => None,
            }
        };
        assert_eq!((decided("a"), decided("b")), (Some(Some((0, Verdict::Parent(0)))), None));
        assert!(rules.choose_ways());
        assert!(matches!(Rules::default().decide(&View::of(&RequestHead::default())), Decided::By(None)));
    }

    #[test]
    fn what_waits_for_the_answer_is_asked_then_alone() {
        let kind = |media: &str| json!({"compare": {"left": "response_type", "operator": "==", "right": {"text": media}, "at": [0, 1]}});
        let host =
            |host: &str| json!({"compare": {"left": "host", "operator": "==", "right": {"text": host}, "at": [0, 1]}});
        let rule = |name: &str, waits: bool, when: serde_json::Value, verdict: serde_json::Value| -> ForwardRule {
            let when = json!({"text": "", "predicate": when});
            serde_json::from_value(json!({"name": name, "when": when, "waits": waits, "verdict": verdict, "throttle": null, "resolves": false})).unwrap()
        };
        let plan = [
            rule("no-zip", true, kind("application/zip"), json!({"deny": 403})),
            rule("a", false, host("a"), json!("allow")),
            rule("not-html", true, json!({"not": kind("text/html")}), json!("close")),
        ];
        let rules = Rules::build(&plan, "forward", &Lists::default()).unwrap();
        for (host, media, before, behind) in [
            ("a", Some("Application/ZIP; x=y"), Some("a"), Some("no-zip")),
            ("a", Some("text/plain"), Some("a"), None),
            ("b", Some("text/plain"), None, Some("not-html")),
            ("b", Some("text/html;charset=utf-8"), None, None),
            ("b", None, None, Some("not-html")),
        ] {
            let head = RequestHead::compose("GET", "/", host, &[]).unwrap();
            let mut response = ResponseHead::default();
            media.into_iter().for_each(|media| response.fields.push("content-type", media));
            let errand = Errand::default();
            let taken = rules.judge(&View { errand: Some(&errand), ..View::of(&head) }).map(|(_, rule)| rule);
            assert_eq!(taken.map(|rule| rule.name.as_str()), before, "{host} {media:?}");
            let errand = Errand { response: Some(&response), ..errand };
            let told = rules.judge_response(&View { errand: Some(&errand), ..View::of(&head) }, taken);
            assert_eq!(told.map(|(_, rule)| rule.name.as_str()), behind, "{host} {media:?}");
            let none = View { errand: Some(&Errand::default()), ..View::of(&head) };
            assert_eq!(rules.passed_over(&none).count(), if host == "a" { 1 } else { 3 });
        }
    }
}
