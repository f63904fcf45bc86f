//! A plan that is asked and does not run.

use crate::forward;
use crate::snapshot::{Registry, Snapshot};
use penstock_plan::Plan;
use penstock_rules::fault::Fault;
use penstock_rules::route::explain::{self, Explanation, Now, Request, Standing, State};

/// A plan with all of it built that needs neither socket nor name, as often as it is asked.
pub struct CheckedPlan(Snapshot);

impl CheckedPlan {
    /// Build it.
    ///
    /// # Errors
    /// All faults.
    pub fn build(plan: Plan) -> Result<CheckedPlan, Vec<Fault>> {
        Registry::new(1).build(plan).map(CheckedPlan)
    }

    /// What is doubtful, but stops nothing.
    pub fn doubts(&self) -> Vec<Fault> {
        self.0.doubts()
    }

    /// Which way a request would take.
    ///
    /// # Errors
    /// The fault of the request.
    pub fn explain(&self, request: &Request) -> Result<Explanation, Fault> {
        let shut = |route: usize| self.0.plan.routes.get(route).is_some_and(|route| route.maintenance.on);
        let standing = |_: usize, _: usize, endpoint: &_| Standing::planned(endpoint, State::Unknown);
        explain::explain(&self.0.plan, &self.0.table, request, &Now { standing, shut, moment: forward::now() })
    }
}
