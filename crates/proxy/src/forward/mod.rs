//! The forward proxy: a listener whose clients name the origin. What it decides is in `rules::forward`; the story of its requests is
//! `exchange/outward.rs`.

mod associate;
pub(crate) mod inside;
mod leaves;
mod origins;
pub(crate) mod socks;

pub(crate) use inside::{Inside, Opening};
pub(crate) use leaves::{Leaves, prepare};
pub(crate) use origins::{Behind, Origins, Site, nowhere};

use crate::observe::metrics::{InterceptionCounters, RuleCounters, Sharded};
use crate::snapshot::UpstreamSettings;
use crate::tls::{Authority, Credentials, UpstreamTls};
use crate::users::Users;
use hickory_resolver::TokioResolver;
use penstock_rules::forward::{Leave, Moment, Pinned, Rules};
use penstock_rules::list::Lists;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// The name under which origins stand where an upstream would.
pub(crate) const ORIGINS: &str = "_origins";

/// What a listener of `forward` has under one plan. It is kept as long as its part of the plan is the same.
pub(crate) struct Forward {
    /// The key of what workers keep of its origins: what was found out under other rules does not count.
    pub(crate) id: u64,
    pub(crate) plan: penstock_plan::Forward,
    pub(crate) leave: Leave,
    pub(crate) rules: Rules,
    /// Whether a request can go more than one way.
    pub(crate) chooses_ways: bool,
    /// Who has to prove who they are; `None`: nobody.
    pub(crate) users: Option<Arc<Users>>,
    /// What the rules look into.
    pub(crate) lists: Lists,
    /// What was counted of each of them, by its place.
    pub(crate) taken: Vec<Arc<SharedRule>>,
    /// How origins are treated: as endpoints of an upstream that has none until somebody asks for them.
    pub(crate) settings: UpstreamSettings,
    /// The same for those that we speak TLS to: they may choose HTTP/2.
    pub(crate) secure: UpstreamSettings,
    /// How those prove who they are; `None`: this machine trusts nobody.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
    /// What `tls` is to speak with once its snapshot runs, where it runs already.
    pub(crate) renewed: Option<Arc<Credentials>>,
    /// How tunnels are opened; `None` where none are.
    pub(crate) interception: Option<Interception>,
}

/// How tunnels are opened.
pub(crate) struct Interception {
    /// Stands for origins.
    pub(crate) authority: Arc<Authority>,
    pub(crate) shared: Arc<SharedInterception>,
}

/// What outlives a reload of it.
#[derive(Debug)]
pub(crate) struct SharedInterception {
    pub(crate) counters: Sharded<InterceptionCounters>,
    /// Looked at once for a tunnel.
    pub(crate) pinned: Mutex<Pinned>,
}

/// Who is asked for names, by each worker for itself; `None` where the machine has nobody to ask.
pub(crate) type Resolvers = Vec<Option<TokioResolver>>;

/// What outlives a reload of a rule.
#[derive(Debug)]
pub(crate) struct SharedRule {
    pub(crate) name: String,
    pub(crate) counters: Sharded<RuleCounters>,
}

impl SharedRule {
    pub(crate) fn new(name: &str, workers: usize) -> SharedRule {
        SharedRule { name: name.to_owned(), counters: Sharded::new(workers) }
    }
}

/// Now. Not for workers, who ask the system nothing that another thread can ask for them.
pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    moment(penstock_system::ahead_of_utc(i64::try_from(since.as_secs()).unwrap_or_default()))
}

/// Now, where local time is so many seconds ahead of UTC.
pub(crate) fn moment(ahead: i64) -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::of(i64::try_from(since.as_secs()).unwrap_or_default(), ahead)
}
