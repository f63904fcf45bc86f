//! The sockets that listeners have open, and whose they are: what a change opens, hands over and closes.

use super::running::{PATIENCE, Running};
use crate::listen::{self, Bound, Socket};
use crate::snapshot::{SharedListener, Snapshot};
use crate::worker::Command;
use arc_swap::ArcSwap;
use penstock_plan::Protocol;
use penstock_rules::fault::Fault;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// Sockets that are open, and whose they are.
#[derive(Clone)]
pub(crate) struct Binding {
    owner: Arc<ArcSwap<SharedListener>>,
    pub(crate) address: String,
    /// Whether datagrams come to them.
    spoken: Protocol,
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
        let binds = self.shared.binds.load();
        for (at, listener) in snapshot.listeners.iter().enumerate() {
            for (entry, bind) in listener.plan.bind.iter().enumerate() {
                let spoken = listener.plan.protocol;
                let key = key(&listener.plan.name, spoken, bind);
                if binds.contains_key(&key) || opened.contains_key(&key) {
                    continue;
                }
                match listen::open(bind, spoken, self.workers.len()) {
                    Ok(bound) => {
                        opened.insert(key, bound);
                    }
                    Err(error) => {
                        let of_same_kind =
                            |binding: &&Binding| (binding.spoken == Protocol::Udp) == (spoken == Protocol::Udp);
                        let mut rivals = binds.values().filter(of_same_kind);
                        let holder = rivals.find(|binding| listen::overlap(bind, &binding.address));
                        let owner = holder.map(|holder| (holder.owner.load_full(), holder.address.as_str()));
                        let holder = owner.as_ref().map(|(owner, address)| (owner.name.as_str(), *address));
                        let path = format!("listeners[{at}].bind[{entry}]");
                        faults.push(Fault::new(path, listen::refusal(bind, &error, holder)));
                    }
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
        &self,
        snapshot: &Snapshot,
        mut opened: BTreeMap<String, Bound>,
    ) -> BTreeMap<String, Vec<String>> {
        let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut binds = BTreeMap::clone(&self.shared.binds.load());
        let mut used = Vec::new();
        for listener in &snapshot.listeners {
            for bind in &listener.plan.bind {
                let spoken = listener.plan.protocol;
                let key = key(&listener.plan.name, spoken, bind);
                if let Some(bound) = opened.remove(&key) {
                    let owner = Arc::new(ArcSwap::new(Arc::clone(&listener.shared)));
                    for (worker, raw) in self.workers.iter().zip(bound.sockets) {
                        let (key, owner) = (key.clone(), Arc::clone(&owner));
                        let socket = Socket { key, owner, raw, port: bound.port, spoken };
                        worker.tell(Command::Listen(socket));
                    }
                    binds.insert(key.clone(), Binding { owner, address: bound.address, spoken });
                } else if let Some(binding) = binds.get(&key) {
                    binding.owner.store(Arc::clone(&listener.shared));
                }
                if let Some(binding) = binds.get(&key) {
                    addresses.entry(listener.plan.name.clone()).or_default().push(binding.address.clone());
                }
                used.push(key);
            }
        }
        let unused: Vec<_> = binds.keys().filter(|key| !used.contains(key)).cloned().collect();
        self.shared.binds.store(Arc::new(binds));
        self.unlisten(&unused);
        addresses
    }

    /// Close every socket.
    pub(super) fn unlisten_all(&self) {
        let keys: Vec<_> = self.shared.binds.load().keys().cloned().collect();
        self.unlisten(&keys);
    }

    /// Close every socket that takes connections.
    pub(super) fn unlisten_connections(&self) {
        let binds = self.shared.binds.load();
        let connections = binds.iter().filter(|(_, binding)| binding.spoken != Protocol::Udp);
        let keys: Vec<_> = connections.map(|(key, _)| key.clone()).collect();
        self.unlisten(&keys);
    }

    fn unlisten(&self, keys: &[String]) {
        let mut binds = BTreeMap::clone(&self.shared.binds.load());
        let mut answers = Vec::new();
        for key in keys {
            for worker in &self.workers {
                let (done, answer) = sync_channel(1);
                worker.tell(Command::Unlisten(key.clone(), done));
                answers.push(answer);
            }
            if let Some(binding) = binds.remove(key) {
                remove_socket_file(&binding.address);
            }
        }
        self.shared.binds.store(Arc::new(binds));
        let until = Instant::now() + PATIENCE;
        for answer in answers {
            // A worker that is gone has closed its sockets, too; one that is stuck must not hold up everything else.
            let _ = answer.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// What a socket is known by. A port that the system chose belongs to its listener; any other address to whoever names it.
/// Datagrams have ports of their own.
fn key(listener: &str, spoken: Protocol, bind: &str) -> String {
    let bind = if spoken == Protocol::Udp { format!("udp:{bind}") } else { bind.to_owned() };
    if bind.ends_with(":0") { format!("{bind} {listener}") } else { bind }
}

pub(super) fn remove_socket_file(address: &str) {
    if let Some(path) = address.strip_prefix("unix:") {
        let _ = std::fs::remove_file(path);
    }
}
