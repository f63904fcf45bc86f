//! What the control thread watches on behalf of all workers, so that no request spends time on it.

mod memory;
mod refusals;
mod stuck;

use crate::clock::TICK;
use crate::worker::Shared;
use memory::Memory;
use refusals::Refusals;
use std::sync::Arc;
use std::time::Instant;
use stuck::Stuck;
use tokio::time::{MissedTickBehavior, interval};

/// Watch until the task is ended.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut memory = Memory::new();
    let mut refusals = Refusals::default();
    let mut stuck = Stuck::new(shared.counters.len(), Instant::now());
    let mut looks = interval(TICK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        looks.tick().await;
        let now = Instant::now();
        memory.look(&shared);
        refusals.look(&shared, now);
        stuck.look(&shared, now);
    }
}
