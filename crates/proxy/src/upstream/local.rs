//! An upstream as one worker uses it: which endpoint takes a request.

use super::affinity::{self, Bond, TableAffinity};
use super::circuit::Circuit;
use super::endpoint::LocalEndpoint;
use super::queue::Queue;
use crate::snapshot::tables;
use penstock_plan::{Affinity, Balance, Hash, HashMethod, Key, Upstream};
use penstock_rules::balance::{Balancer, Draw, HashTable, Loads, Member, grown_weight};
use penstock_rules::retry::RetryBudget;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// How often a client is looked for anew, because another worker has just bound it.
const RACES: u32 = 2;

/// A request under way to an endpoint.
pub(crate) struct InFlight {
    pub(crate) endpoint: Rc<LocalEndpoint>,
    /// Of the endpoint, when the request began.
    pub(super) ejections: u32,
    /// Whether it has one of a limited number of places.
    pub(super) counted: bool,
    /// Since when it waits for an answer ([`super::waits`]).
    pub(super) waits_since: Option<u64>,
}

impl InFlight {
    /// Whether it says something of the endpoint as it is now: an ejection since it began has drawn a line.
    pub(crate) fn is_current(&self) -> bool {
        self.ejections == self.endpoint.shared.standing.ejections()
    }

    /// Give the place back: the request goes to another endpoint, or to this one anew.
    pub(crate) fn leave(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.endpoint.shared.duty.leave();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.waits_since.is_some() {
            self.heard(Instant::now());
        }
        self.endpoint.in_flight.set(self.endpoint.in_flight.get().saturating_sub(1));
        let (ejections, count) = self.endpoint.since_ejection.get();
        if ejections == self.ejections {
            self.endpoint.since_ejection.set((ejections, count.saturating_sub(1)));
        }
        self.endpoint.counters().in_flight.subtract(1);
        self.leave();
    }
}

/// What of an upstream outlives a change of it: a reload is no way around what was spent, or past who stands in line.
#[derive(Clone)]
pub(crate) struct Lasting {
    pub(crate) budget: Rc<RetryBudget>,
    pub(crate) queue: Rc<Queue>,
}

impl Lasting {
    pub(crate) fn new(now: Instant) -> Lasting {
        Lasting { budget: Rc::new(RetryBudget::new(now)), queue: Rc::default() }
    }
}

/// An upstream as one worker uses it.
pub(crate) struct LocalUpstream {
    balancer: RefCell<Balancer>,
    /// Where the keys of an affinity go.
    bound: Option<Balancer>,
    /// Where the clients of an affinity by table are.
    table: Option<Arc<TableAffinity>>,
    /// What `balancer` was made of.
    members: RefCell<Vec<Member>>,
    pub(crate) budget: Rc<RetryBudget>,
    /// The line of this worker, which outlives changes.
    pub(crate) queue: Rc<Queue>,
    /// How often connections had been refused when this worker last made room.
    crowded: Cell<u32>,
    pub(crate) endpoints: Vec<Rc<LocalEndpoint>>,
}

/// The endpoints of an upstream, less those that a request has failed on.
struct Remaining<'a> {
    endpoints: &'a [Rc<LocalEndpoint>],
    /// Bit N: endpoint N was tried. Those beyond 64 can be tried twice, which is harmless and rare.
    tried: u64,
    /// All are out: a probe that fails everywhere is a broken probe (safety.md 167), and one endpoint of several that fail is better
    /// than none.
    all_down: bool,
    /// Endpoints without a place count, too.
    full: bool,
    /// For a client that is bound: endpoints that drain count, too.
    bound: bool,
    now: Instant,
}

/// Why no endpoint was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpicked {
    /// Those that could be have as many requests as they may.
    Busy,
    /// There is none.
    None,
}

impl Loads for Remaining<'_> {
    fn usable(&self, endpoint: usize) -> bool {
        let tried = endpoint < 64 && self.tried & (1 << endpoint) != 0;
        let Some(LocalEndpoint { shared, .. }) = self.endpoints.get(endpoint).map(|endpoint| &**endpoint) else {
            return false;
        };
        let duty = &shared.duty;
        let may = if self.bound { duty.keeps_bound() } else { duty.is_ready() };
        !tried
            && may
            && (self.full || duty.has_room())
            && if self.all_down { !shared.is_starting() } else { !shared.is_out(self.now) }
    }

    fn avoided(&self, endpoint: usize) -> bool {
        self.endpoints.get(endpoint).is_some_and(|endpoint| {
            // On trial one request at a time finds out; the first that fails ends it for all workers.
            if endpoint.shared.standing.is_on_trial() {
                endpoint.in_flight_since_ejection() > 0
            } else {
                endpoint.avoidance.avoids(self.now)
            }
        })
    }

    fn in_flight(&self, endpoint: usize) -> u32 {
        self.endpoints.get(endpoint).map_or(0, |endpoint| endpoint.in_flight.get())
    }

    fn latency(&self, endpoint: usize, now: Instant) -> Option<f32> {
        self.endpoints.get(endpoint)?.latency(now)
    }
}

impl LocalUpstream {
    pub(crate) fn new(
        plan: &Upstream,
        endpoints: Vec<Rc<LocalEndpoint>>,
        (of_policy, affinity): (&[Arc<HashTable>], Option<&affinity::Affinity>),
        Lasting { budget, queue }: Lasting,
    ) -> LocalUpstream {
        let members = members(plan, &endpoints);
        let balancer = RefCell::new(Balancer::build(&plan.balance, &members, of_policy));
        let bound = matches!(plan.affinity, Some(Affinity::Key(_))).then(|| {
            let method = HashMethod::Rendezvous;
            let tables = tables(plan, method, endpoints.iter().map(|endpoint| &*endpoint.shared), &[]);
            let hash = Hash { key: Key(Vec::new()), method, bounded_load: None };
            Balancer::build(&Balance::Hash(hash), &members, &tables)
        });
        let table = match affinity {
            Some(affinity::Affinity::Table(table)) => Some(Arc::clone(table)),
            _ => None,
        };
        LocalUpstream {
            balancer,
            bound,
            table,
            members: RefCell::new(members),
            budget,
            queue,
            crowded: Cell::default(),
            endpoints,
        }
    }

    /// Whether there is an endpoint that takes requests and was not `tried` yet.
    pub(crate) fn has_other(&self, tried: u64, now: Instant) -> bool {
        let remaining = self.remaining(tried, now);
        self.balancer.borrow().any(|endpoint| remaining.usable(endpoint))
    }

    /// Choose an endpoint that was not `tried` yet, the one that the client is bound to before all others, and take a place there.
    pub(crate) fn pick(&self, tried: u64, bond: Bond, draw: &Draw) -> Result<(usize, InFlight), Unpicked> {
        if bond != Bond::None {
            if let (Bond::Table(key), Some(table)) = (bond, &self.table) {
                return self.pick_by_table(table, key, tried, draw);
            }
            if let Some(picked) = self.pick_bound(tried, bond, draw) {
                return Ok(picked);
            }
        }
        let mut remaining = self.remaining(tried, draw.now);
        let balancer = self.balancer.borrow();
        // Another worker may take the last place between the look and the grasp: then the endpoint is full at the next look.
        for _ in 0..=self.endpoints.len() {
            let picked = balancer.pick(&remaining, draw).or_else(|| {
                remaining.all_down = self.is_all_out(draw.now);
                if remaining.all_down { balancer.pick(&remaining, draw) } else { None }
            });
            let Some(picked) = picked else { break };
            if let Some(in_flight) = self.endpoints.get(picked).and_then(LocalEndpoint::begin) {
                return Ok((picked, in_flight));
            }
        }
        remaining.full = true;
        Err(if balancer.any(|endpoint| remaining.usable(endpoint)) { Unpicked::Busy } else { Unpicked::None })
    }

    /// Whether the endpoint keeps the clients that are bound to it, also where it has no place for them right now.
    pub(crate) fn keeps(&self, endpoint: usize, tried: u64, now: Instant) -> bool {
        let mut remaining = Remaining { bound: true, full: true, ..self.remaining(tried, now) };
        remaining.usable(endpoint) || {
            remaining.all_down = self.is_all_out(now);
            remaining.usable(endpoint)
        }
    }

    fn pick_bound(&self, tried: u64, bond: Bond, draw: &Draw) -> Option<(usize, InFlight)> {
        let remaining = Remaining { bound: true, ..self.remaining(tried, draw.now) };
        let picked = match bond {
            Bond::None | Bond::Table(_) => None,
            Bond::Endpoint(endpoint) => self.keeps(endpoint, tried, draw.now).then_some(endpoint),
            Bond::Key(key) => self.bound.as_ref()?.pick(&remaining, &Draw { key: Some(key), ..*draw }),
        }?;
        Some((picked, self.endpoints.get(picked)?.begin()?))
    }

    /// The endpoint that the table has for this client. A client that has none, or one that does not keep it, is bound to the one that
    /// is picked for it, unless another worker was faster: then that one is asked.
    fn pick_by_table(
        &self,
        table: &TableAffinity,
        key: u64,
        tried: u64,
        draw: &Draw,
    ) -> Result<(usize, InFlight), Unpicked> {
        let mut known = table.see(key, draw.now);
        for turn in 0.. {
            if let Some(own) = known.endpoint {
                if let Some(picked) = self.pick_bound(tried, Bond::Endpoint(own), draw) {
                    return Ok(picked);
                }
                if self.keeps(own, tried, draw.now) {
                    // It is full for a moment.
                    return self.pick(tried, Bond::None, draw);
                }
            }
            let (picked, in_flight) = self.pick(tried, Bond::None, draw)?;
            let bound = table.bind(key, known, in_flight.endpoint.shared.id, draw.now);
            if bound.endpoint == Some(picked) || turn == RACES {
                return Ok((picked, in_flight));
            }
            known = bound;
        }
        Err(Unpicked::None)
    }

    fn remaining(&self, tried: u64, now: Instant) -> Remaining<'_> {
        Remaining { endpoints: &self.endpoints, tried, all_down: false, full: false, bound: false, now }
    }

    /// As `UpstreamSettings::is_all_down`, which says so to people.
    fn is_all_out(&self, now: Instant) -> bool {
        self.endpoints.iter().filter(|one| one.shared.duty.takes_new()).all(|one| one.shared.is_out(now))
    }

    /// Close what is not used, if a connection was refused since this was asked last: its place may be the one that lacks.
    pub(crate) fn make_room(&self, circuit: &Circuit) {
        let crowded = circuit.counts().crowded();
        if self.crowded.replace(crowded) != crowded {
            self.endpoints.iter().for_each(|endpoint| {
                endpoint.shed();
            });
        }
    }

    /// Let weights grow that are still growing.
    pub(crate) fn reweigh(&self, plan: &Upstream, tables: &[Arc<HashTable>]) {
        if plan.endpoints.iter().all(|endpoint| endpoint.slow_start.is_none()) {
            return;
        }
        let members = members(plan, &self.endpoints);
        if *self.members.borrow() != members {
            *self.balancer.borrow_mut() = Balancer::build(&plan.balance, &members, tables);
            *self.members.borrow_mut() = members;
        }
    }
}

/// The endpoints with the weights that they have now. Where none starts slowly, these are those that were given.
fn members(plan: &Upstream, endpoints: &[Rc<LocalEndpoint>]) -> Vec<Member> {
    let slowly = plan.endpoints.iter().any(|endpoint| endpoint.slow_start.is_some());
    let member = |(plan, endpoint): (&penstock_plan::Endpoint, &Rc<LocalEndpoint>)| {
        let weight = endpoint.shared.duty.weight();
        let weight = if slowly {
            grown_weight(weight, plan.slow_start.unwrap_or_default(), endpoint.shared.up_for(Instant::now()))
        } else {
            weight.into()
        };
        Member { weight, priority: plan.priority }
    };
    plan.endpoints.iter().zip(endpoints).map(member).collect()
}
