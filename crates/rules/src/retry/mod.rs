//! Whether a request is sent once more, and how many may be.

mod budget;
mod policy;

pub use budget::RetryBudget;
pub use policy::Retries;
