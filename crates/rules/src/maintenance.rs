//! Maintenance of a route: whether it is on, and which requests pass nevertheless.

use crate::fault::Fault;
use crate::route::{Test, View};
use penstock_plan::Route;
use std::time::Duration;

/// Who passes while a route is in maintenance.
#[derive(Debug, Default)]
pub struct Exception(Option<Test>);

impl Exception {
    /// Compile that of `plan`, whose place is `path`.
    ///
    /// # Errors
    /// All faults of the expression.
    pub fn build(plan: &penstock_plan::Maintenance, path: &str) -> Result<Exception, Vec<Fault>> {
        let test = plan.except.as_ref().map(|except| Test::compile(&except.predicate, &format!("{path}.except")));
        test.transpose().map(Exception)
    }

    /// Whether this request passes.
    pub fn spares(&self, view: &View<'_>) -> bool {
        self.0.as_ref().is_some_and(|test| test.matches(view))
    }
}

/// Whether a route is in maintenance: as it is configured, or as was ordered since. What the file changes goes before what was
/// ordered.
#[derive(Debug, Default)]
pub struct Switch {
    configured: Option<Configured>,
    ordered: Option<bool>,
}

/// What an order overrides.
#[derive(Debug, PartialEq, Eq)]
struct Configured {
    on: bool,
    /// Of a route without a name, which is known by its place: another match there is another route.
    text: Option<String>,
}

impl Switch {
    /// This plan runs now; `at` is the route's place in it.
    pub fn configure(&mut self, at: usize, route: &Route) {
        let nameless = route.name == format!("route-{}", at + 1);
        let text = route.matches.as_ref().filter(|_| nameless).map(|matches| matches.text.clone());
        let configured = Some(Configured { on: route.maintenance.on, text });
        if self.configured != configured {
            *self = Switch { configured, ordered: None };
        }
    }

    /// A command.
    pub fn order(&mut self, on: bool) {
        self.ordered = Some(on);
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.ordered.unwrap_or_else(|| self.configured.as_ref().is_some_and(|configured| configured.on))
    }
}

/// The `Retry-After` that says so, in whole seconds (RFC 9110 §10.2.3).
pub fn retry_after(wait: Duration) -> String {
    wait.as_millis().div_ceil(1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn route(name: &str, text: &str, on: bool) -> Route {
        let matches = json!({"text": text, "predicate": {"constant": true}});
        serde_json::from_value(json!({
            "name": name, "listeners": null, "match": matches, "strict": false, "action": {"upstream": 0}, "filters": [],
            "addons": [], "timeouts": {"head": null, "body": null, "total": null}, "limits": {"body": null}, "error_pages": [],
            "mirror": null, "maintenance": {"on": on, "except": Value::Null, "retry_after": 1},
        }))
        .unwrap()
    }

    #[test]
    fn an_order_lasts_until_the_file_says_otherwise() {
        let mut switch = Switch::default();
        assert!(!switch.is_on());
        switch.configure(0, &route("shop", "a", false));
        switch.order(true);
        switch.configure(4, &route("shop", "b", false));
        assert!(switch.is_on(), "a route is known by its name");
        switch.configure(4, &route("shop", "b", true));
        switch.order(false);
        assert!(!switch.is_on());
        switch.configure(4, &route("shop", "b", false));
        switch.configure(4, &route("shop", "b", true));
        assert!(switch.is_on(), "the order has ended");
    }

    #[test]
    fn an_order_does_not_go_to_another_route_in_the_same_place() {
        let mut switch = Switch::default();
        switch.configure(1, &route("route-2", "a", false));
        switch.order(true);
        switch.configure(1, &route("route-2", "a", false));
        assert!(switch.is_on());
        switch.configure(1, &route("route-2", "b", false));
        assert!(!switch.is_on());
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
        for (millis, text) in [(1, "1"), (1000, "1"), (1001, "2"), (600_000, "600")] {
            assert_eq!(retry_after(Duration::from_millis(millis)), text);
        }
    }
}
