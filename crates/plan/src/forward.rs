//! What a listener of `forward` has beside what all have: for whom it goes where.

use crate::{UpstreamLimits, UpstreamTimeouts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// For whom requests go out, where to, and how origins are treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Networks (`"10.0.0.0/8"`, `"fd00::/8"`) of clients that are served beside those of this machine.
    pub allow_clients: Vec<String>,
    /// Ports that `CONNECT` may name, as ranges with both ends.
    pub connect_ports: Vec<(u16, u16)>,
    /// Whether addresses may be reached that are not public: of this machine, of its network, and the like.
    pub allow_private: bool,
    /// How long we wait for an origin.
    pub timeouts: UpstreamTimeouts,
    /// How much an origin may ask of us; those that count, count over all origins together.
    pub limits: UpstreamLimits,
}
