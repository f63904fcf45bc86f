//! Whether a request is sent once more, and how many may be.

mod budget;
mod policy;
#[cfg(test)]
mod simulation;

pub use budget::RetryBudget;
pub use policy::Retries;
