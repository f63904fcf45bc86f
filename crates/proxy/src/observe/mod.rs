//! What the data plane tells about itself: counters, events and access records. Nothing here waits for whoever reads it.

pub(crate) mod access_log;
pub(crate) mod events;
pub(crate) mod metrics;
