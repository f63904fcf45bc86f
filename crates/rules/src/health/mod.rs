//! Which endpoints may take requests, as state machines: probes tell of up and down, refused connections of "not just now".

mod avoidance;
mod probe;

pub use avoidance::Avoidance;
pub use probe::{Change, Health, Outcome, Schedule, State};
