//! The sockets that listeners have open, and whose they are: what a change opens, hands over and closes.

use super::running::{PATIENCE, Running};
use crate::listen::{self, Bound, Socket};
use crate::snapshot::{SharedListener, Snapshot};
use crate::worker::Command;
use arc_swap::ArcSwap;
use penstock_rules::fault::Fault;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// Sockets that are open, and whose they are.
pub(crate) struct Binding {
    owner: Arc<ArcSwap<SharedListener>>,
    pub(crate) address: String,
}

impl Binding {
    /// Id of the listener that the sockets belong to now.
    pub(crate) fn owner_id(&self) -> u64 {
        self.owner.load().id
    }
}

impl Running {
    /// Open the sockets that are not open yet.
    pub(super) fn open_new(&self, snapshot: &Snapshot) -> Result<BTreeMap<String, Bound>, Vec<Fault>> {
        let (mut opened, mut faults) = (BTreeMap::new(), Vec::new());
        for (at, listener) in snapshot.listeners.iter().enumerate() {
            for (entry, bind) in listener.plan.bind.iter().enumerate() {
                let key = key(&listener.plan.name, bind);
                if self.binds.contains_key(&key) || opened.contains_key(&key) {
                    continue;
                }
                match listen::open(bind, self.workers.len()) {
                    Ok(bound) => {
                        opened.insert(key, bound);
                    }
                    Err(message) => faults.push(Fault::new(format!("listeners[{at}].bind[{entry}]"), message)),
                }
            }
        }
        if faults.is_empty() {
            return Ok(opened);
        }
        opened.values().for_each(|bound| remove_socket_file(&bound.address));
        Err(faults)
    }

    /// Give sockets to their listeners, new ones to the workers, and close those that nobody has any more.
    pub(super) fn rebind(
        &mut self,
        snapshot: &Snapshot,
        mut opened: BTreeMap<String, Bound>,
    ) -> BTreeMap<String, Vec<String>> {
        let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut used = Vec::new();
        for listener in &snapshot.listeners {
            for bind in &listener.plan.bind {
                let key = key(&listener.plan.name, bind);
                if let Some(bound) = opened.remove(&key) {
                    let owner = Arc::new(ArcSwap::new(Arc::clone(&listener.shared)));
                    for (worker, raw) in self.workers.iter().zip(bound.sockets) {
                        let socket = Socket { key: key.clone(), owner: Arc::clone(&owner), raw, port: bound.port };
                        worker.tell(Command::Listen(socket));
                    }
                    self.binds.insert(key.clone(), Binding { owner, address: bound.address });
                } else if let Some(binding) = self.binds.get(&key) {
                    binding.owner.store(Arc::clone(&listener.shared));
                }
                if let Some(binding) = self.binds.get(&key) {
                    addresses.entry(listener.plan.name.clone()).or_default().push(binding.address.clone());
                }
                used.push(key);
            }
        }
        let unused: Vec<_> = self.binds.keys().filter(|key| !used.contains(key)).cloned().collect();
        self.unlisten(&unused);
        addresses
    }

    pub(super) fn unlisten(&mut self, keys: &[String]) {
        let mut answers = Vec::new();
        for key in keys {
            for worker in &self.workers {
                let (done, answer) = sync_channel(1);
                worker.tell(Command::Unlisten(key.clone(), done));
                answers.push(answer);
            }
            if let Some(binding) = self.binds.remove(key) {
                remove_socket_file(&binding.address);
            }
        }
        let until = Instant::now() + PATIENCE;
        for answer in answers {
            // A worker that is gone has closed its sockets, too; one that is stuck must not hold up everything else.
            let _ = answer.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// What a socket is known by. A port that the system chose belongs to its listener; any other address to whoever names it.
fn key(listener: &str, bind: &str) -> String {
    if bind.ends_with(":0") { format!("{bind} {listener}") } else { bind.to_owned() }
}

pub(super) fn remove_socket_file(address: &str) {
    if let Some(path) = address.strip_prefix("unix:") {
        let _ = std::fs::remove_file(path);
    }
}
