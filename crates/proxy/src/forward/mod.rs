//! The forward proxy: a listener whose clients name the origin. What it decides is in `rules::forward`; the story of its requests is
//! `exchange/outward.rs`.

mod origins;

pub(crate) use origins::{Origins, nowhere};

use crate::snapshot::UpstreamSettings;
use hickory_resolver::TokioResolver;
use penstock_rules::forward::Leave;

/// The name under which origins stand where an upstream would.
pub(crate) const ORIGINS: &str = "_origins";

/// What a listener of `forward` has under one plan. It is kept as long as its part of the plan is the same.
pub(crate) struct Forward {
    /// The key of what workers keep of its origins: what was found out under other rules does not count.
    pub(crate) id: u64,
    pub(crate) plan: penstock_plan::Forward,
    pub(crate) leave: Leave,
    /// How origins are treated: as endpoints of an upstream that has none until somebody asks for them.
    pub(crate) settings: UpstreamSettings,
}

/// Who is asked for names, by each worker for itself; `None` where the machine has nobody to ask.
pub(crate) type Resolvers = Vec<Option<TokioResolver>>;
