//! The control thread: names and probes, whatever is not part of a request.

use crate::buffers::Buffers;
use crate::guard;
use crate::lists;
use crate::snapshot::Snapshot;
use crate::tls::{self, Secure};
use crate::upstream::endpoint::{Endpoint, Place};
use crate::upstream::probe::Probing;
use crate::upstream::resolve::{self, Asked};
use crate::upstream::watch::watch;
use crate::users;
use crate::worker::Shared;
use hickory_resolver::TokioResolver;
use penstock_plan::{Dns, HealthCheck, ProxyVersion, UpstreamProtocol};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::LocalRuntime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How often it is asked whether an old snapshot is still in use.
const UNUSED: Duration = Duration::from_millis(100);

/// Routes of an old snapshot that are freed at a time, and the pause behind: a worker that shares the core of this thread would otherwise
/// wait until the kernel takes it away, which may be several milliseconds.
const PIECE: usize = 512;
const PAUSE: Duration = Duration::from_millis(1);

/// How often it is asked how local time stands to UTC.
const TIME_ZONE: Duration = Duration::from_secs(10);

/// What the control thread is told.
pub(crate) enum Command {
    /// Ask these servers for these names once and say which have no address, each with the reason.
    Resolve(Dns, Vec<Arc<Endpoint>>, SyncSender<Vec<String>>),
    /// Look after the endpoints of this snapshot, and no others.
    Follow(Arc<Snapshot>),
    /// Free this snapshot once no worker uses it: freeing ten thousand routes takes longer than a request may wait.
    Retire(Arc<Snapshot>),
    Stop,
}

/// What is followed, by endpoint: who is asked, the health check and how it is spoken to, to see whether they changed, and the tasks.
type Followed = HashMap<u64, (Wanted, Vec<AbortHandle>)>;
type Wanted = (Dns, Option<HealthCheck>, (Option<u64>, UpstreamProtocol, Option<ProxyVersion>));

/// Whoever answers for names. Made with the first name: a configuration of addresses needs none.
#[derive(Default)]
struct Names {
    dns: Dns,
    resolver: Option<Arc<TokioResolver>>,
}

impl Names {
    fn resolver(&mut self, dns: &Dns) -> Option<Arc<TokioResolver>> {
        if self.resolver.is_none() || self.dns != *dns {
            self.dns = dns.clone();
            self.resolver = resolve::resolver(dns).map(Arc::new);
        }
        self.resolver.clone()
    }
}

/// What was asked for an apply, by endpoint, until the endpoint is followed.
type Answers = Rc<RefCell<HashMap<u64, Asked>>>;

/// Run until told to stop.
pub(crate) fn run(shared: Arc<Shared>, runtime: &LocalRuntime, commands: mpsc::UnboundedReceiver<Command>) {
    runtime.block_on(async {
        tokio::task::spawn_local(watch(Arc::clone(&shared)));
        obey(shared, commands).await;
    });
}

async fn obey(shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut names = Names::default();
    let mut followed = Followed::new();
    let answers = Answers::default();
    tokio::task::spawn_local(guard::run(Arc::clone(&shared)));
    tokio::task::spawn_local(tls::follow(Arc::clone(&shared)));
    tokio::task::spawn_local(follow_time_zone(Arc::clone(&shared)));
    tokio::task::spawn_local(lists::follow(Arc::clone(&shared)));
    tokio::task::spawn_local(users::follow(Arc::clone(&shared)));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Resolve(dns, endpoints, answer) => {
                let (resolver, answers) = (names.resolver(&dns), Rc::clone(&answers));
                tokio::task::spawn_local(async move {
                    let _ = answer.try_send(resolve_all(resolver, endpoints, answers).await);
                });
            }
            Command::Follow(snapshot) => {
                followed = follow(&shared, &mut names, &snapshot, followed, &answers);
                answers.borrow_mut().clear();
            }
            Command::Retire(snapshot) => {
                tokio::task::spawn_local(retire(snapshot));
            }
            Command::Stop => return,
        }
    }
}

/// Free a snapshot once no worker uses it.
async fn retire(snapshot: Arc<Snapshot>) {
    while Arc::strong_count(&snapshot) > 1 {
        tokio::time::sleep(UNUSED).await;
    }
    let Some(mut last) = Arc::into_inner(snapshot) else { return };
    while !last.routes.is_empty() {
        let rest = last.routes.len().saturating_sub(PIECE);
        last.routes.truncate(rest);
        last.plan.routes.truncate(rest);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Notice when clocks are put forward or back.
async fn follow_time_zone(shared: Arc<Shared>) {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ahead = penstock_system::ahead_of_utc(i64::try_from(now.as_secs()).unwrap_or_default());
        shared.ahead_of_utc.store(ahead, Ordering::Relaxed);
        tokio::time::sleep(TIME_ZONE).await;
    }
}

async fn resolve_all(
    resolver: Option<Arc<TokioResolver>>,
    endpoints: Vec<Arc<Endpoint>>,
    answers: Answers,
) -> Vec<String> {
    let tasks: Vec<_> = endpoints
        .into_iter()
        .map(|endpoint| {
            let (resolver, answers) = (resolver.clone(), Rc::clone(&answers));
            tokio::task::spawn_local(async move {
                let outcome = match &resolver {
                    Some(resolver) => resolve::refresh(resolver, &endpoint).await,
                    None => Err("this machine has no resolver".into()),
                };
                answers.borrow_mut().insert(endpoint.id, outcome.clone());
                outcome.map_err(|reason| format!("{} does not resolve yet: {reason}", endpoint.address)).err()
            })
        })
        .collect();
    let mut warnings = Vec::new();
    for task in tasks {
        warnings.extend(task.await.ok().flatten());
    }
    warnings
}

/// Start what is new, end what is gone or changed, leave the rest alone.
fn follow(
    shared: &Arc<Shared>,
    names: &mut Names,
    snapshot: &Snapshot,
    mut before: Followed,
    answers: &Answers,
) -> Followed {
    let mut now = Followed::new();
    for upstream in &snapshot.upstreams {
        let of_probes = upstream.probe_tls.as_ref().or(upstream.tls.as_ref());
        let announces = upstream.plan.proxy_protocol;
        let manner = (of_probes.map(|tls| tls.id), upstream.plan.protocol, announces);
        let wanted = (snapshot.plan.dns.clone(), upstream.plan.health_check.clone(), manner);
        for endpoint in &upstream.endpoints {
            if upstream.plan.outlier.is_none() {
                endpoint.standing.forget();
            }
            if before.get(&endpoint.id).is_some_and(|(known, _)| *known == wanted)
                && let Some(unchanged) = before.remove(&endpoint.id)
            {
                now.insert(endpoint.id, unchanged);
                continue;
            }
            let mut tasks = Vec::new();
            if let Place::Tcp { name: Some(_), .. } = &endpoint.place
                && let Some(resolver) = names.resolver(&snapshot.plan.dns)
            {
                let asked = answers.borrow_mut().remove(&endpoint.id);
                let following = resolve::follow(resolver, Arc::clone(endpoint), Arc::clone(shared), asked);
                tasks.push(tokio::task::spawn_local(following).abort_handle());
            }
            match (&wanted.1, &upstream.question) {
                (Some(check), Some(question)) => {
                    let probing = Probing {
                        upstream: upstream.plan.name.clone(),
                        endpoint: Arc::clone(endpoint),
                        secure: of_probes.and_then(|tls| Secure::new(tls, &endpoint.address)),
                        protocol: upstream.plan.protocol,
                        buffers: Buffers::new(),
                        announces,
                        check: check.clone(),
                        question: Arc::clone(question),
                        shared: Arc::clone(shared),
                    };
                    tasks.push(tokio::task::spawn_local(probing.follow()).abort_handle());
                }
                _ => endpoint.forget_probes(),
            }
            now.insert(endpoint.id, (wanted.clone(), tasks));
        }
    }
    before.into_values().flat_map(|(_, tasks)| tasks).for_each(|task| task.abort());
    now
}
