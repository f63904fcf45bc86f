//! Which endpoints may take requests, as state machines: probes tell of up and down, refused connections of "not just now".

mod answer;
mod avoidance;
mod outcome;
mod probe;

pub use answer::{GrpcQuestion, HttpAnswer, HttpQuestion, MOST, Question, TcpAnswer, TcpQuestion};
pub use avoidance::Avoidance;
pub use outcome::Outcome;
pub use probe::{Change, Health, Probed, Schedule, State};
