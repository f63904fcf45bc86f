//! Maintenance of a route: whether it is on, and which requests pass nevertheless.

use crate::fault::Fault;
use crate::list::Lists;
use crate::route::{Test, View};
use penstock_plan::Route;
use std::fmt::Display;
use std::time::Duration;

/// Who passes while a route is in maintenance.
#[derive(Debug, Default)]
pub struct Exception(Option<Box<Test>>);

impl Exception {
    /// Compile that of `plan`, whose place is `path`.
    ///
    /// # Errors
    /// All faults of the expression.
    pub fn build(
        plan: &penstock_plan::Maintenance,
        path: impl Display,
        lists: &Lists,
    ) -> Result<Exception, Vec<Fault>> {
        let test = plan.except.as_ref();
        let test = test.map(|except| Test::compile(&except.predicate, format_args!("{path}.except"), lists));
        Ok(Exception(test.transpose()?.map(Box::new)))
    }

    /// Whether this request passes.
    pub fn spares(&self, view: &View<'_>) -> bool {
        self.0.as_ref().is_some_and(|test| test.matches(view))
    }
}

/// Whether a route is in maintenance: as it is configured, or as was ordered since. What the file changes goes before what was
/// ordered.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    configured: bool,
    ordered: Option<bool>,
}

impl Switch {
    /// That of a route which is configured so and was not there before; `all`: all routes were ordered into maintenance.
    pub fn new(configured: bool, all: bool) -> Switch {
        Switch { configured, ordered: all.then_some(true) }
    }

    /// That of the same route where another plan runs; `None`: as it is now.
    #[must_use]
    pub fn under(&self, configured: bool) -> Option<Switch> {
        (self.configured != configured).then_some(Switch { configured, ordered: None })
    }

    /// A command.
    pub fn order(&mut self, on: bool) {
        self.ordered = Some(on);
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.ordered.unwrap_or(self.configured)
    }
}

/// What tells a route from the one that has its name in another plan: a route without a name is known by its place, and another
/// match there is another route. `at` is its place.
pub fn identity(at: usize, route: &Route) -> Option<&str> {
    let nameless = route.name.starts_with("route-") && route.name == format!("route-{}", at + 1);
    route.matches.as_ref().filter(|_| nameless).map(|matches| matches.text.as_str())
}

/// The `Retry-After` that says so, in whole seconds (RFC 9110 §10.2.3).
pub fn retry_after(wait: Duration) -> String {
    wait.as_millis().div_ceil(1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn route(name: &str, text: &str) -> Route {
        let matches = json!({"text": text, "predicate": {"constant": true}});
        serde_json::from_value(json!({
            "name": name, "listeners": null, "match": matches, "strict": false, "action": {"upstream": 0}, "filters": [],
            "addons": [], "timeouts": {"head": null, "body": null, "total": null}, "limits": {"body": null}, "error_pages": [],
            "mirror": null, "maintenance": {"on": false, "except": Value::Null, "retry_after": 1},
        }))
        .unwrap()
    }

    #[test]
    fn an_order_lasts_until_the_file_says_otherwise() {
        let mut switch = Switch::new(false, false);
        assert!(!switch.is_on());
        switch.order(true);
        assert!(switch.is_on() && switch.under(false).is_none());
        let mut written = switch.under(true).unwrap();
        written.order(false);
        assert!(!written.is_on());
        assert!(!written.under(false).unwrap().is_on(), "the order has ended");
    }

    #[test]
    fn a_route_that_comes_while_all_are_shut_is_shut_until_the_file_says_otherwise() {
        let switch = Switch::new(false, true);
        assert!(switch.is_on() && switch.under(false).is_none());
        assert!(!Switch::new(true, true).under(false).unwrap().is_on());
    }

    #[test]
    fn a_route_without_a_name_is_known_by_its_match() {
        let (shop, first, other) = (route("shop", "a"), route("route-2", "a"), route("route-2", "b"));
        assert_eq!((identity(1, &shop), identity(1, &first), identity(1, &other)), (None, Some("a"), Some("b")));
        assert_eq!(identity(4, &first), None, "somebody gave it this name");
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
        for (millis, text) in [(1, "1"), (1000, "1"), (1001, "2"), (600_000, "600")] {
            assert_eq!(retry_after(Duration::from_millis(millis)), text);
        }
    }
}
