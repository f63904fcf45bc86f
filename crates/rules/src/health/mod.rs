//! Which endpoints may take requests, as state machines. Probes tell of up and down, requests that fail again and again of
//! ejection, and one refused connection of "not just now".

mod answer;
mod avoidance;
mod outcome;
mod outlier;
mod probe;
mod slow;

pub use answer::{
    GRPC_PATH, GrpcQuestion, HttpAnswer, HttpQuestion, MOST, Question, TcpAnswer, TcpQuestion, UdpQuestion,
};
pub use avoidance::Avoidance;
pub use outcome::Outcome;
pub use outlier::{Cause, Ejection, Outlier, may_eject};
pub use probe::{Change, Health, Probed, Schedule, State};
pub use slow::{SlowWatch, Waits};
