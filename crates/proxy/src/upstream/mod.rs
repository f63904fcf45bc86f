//! Endpoints: which one, its connections, its names and its health.

pub(crate) mod affinity;
pub(crate) mod channel;
pub(crate) mod circuit;
pub(crate) mod connect;
pub(crate) mod duty;
pub(crate) mod endpoint;
pub(crate) mod local;
pub(crate) mod opened;
pub(crate) mod outlier;
pub(crate) mod probe;
pub(crate) mod queue;
pub(crate) mod reserved;
pub(crate) mod resolve;
pub(crate) mod waits;
pub(crate) mod watch;
