//! What commands ask of an affinity table, and have it forget.

use super::Affinity;
use super::table::{Table, TableAffinity};
use crate::snapshot::UpstreamSettings;
use penstock_plan::AffinityQuery;
use penstock_rules::route::Key;
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Tenths of a second in one.
const TENTHS: f64 = 10.0;

/// Answer a command about the table of this upstream.
///
/// # Errors
/// What is wrong with it, as a sentence: there is no table, or no such endpoint.
pub(crate) fn ask(settings: &UpstreamSettings, query: &AffinityQuery) -> Result<Value, String> {
    let name = &settings.plan.name;
    let Some(Affinity::Table(affinity)) = &settings.affinity else {
        return Err(format!(
            "upstream {name:?} has no affinity table: affinity = {{ table = \"client.ip\" }} gives it one"
        ));
    };
    let id = match &query.endpoint {
        Some(address) => Some(id_of(settings, address)?),
        None => None,
    };
    affinity.table.expire();
    let client = query.key.as_deref().map(|key| client(settings, &affinity.table, key));
    let cleared = match (&query.key, id) {
        _ if !query.clear => None,
        (Some(key), None) => Some(affinity.table.forget(Key::hash_of(key))),
        (None, id) => Some(affinity.table.clear(id)),
        (Some(_), Some(_)) => return Err("forgets one client or those of one endpoint: give one of both".into()),
    };
    let mut document = affinity.report();
    document["upstream"] = json!(name);
    document["client"] = json!(client);
    document["cleared"] = json!(cleared);
    document["endpoints"] = if query.key.is_none() { endpoints(settings, &affinity.table) } else { json!([]) };
    Ok(document)
}

impl TableAffinity {
    /// How full the table is.
    pub(crate) fn report(&self) -> Value {
        let table = &self.table;
        table.expire();
        json!({
            "clients": table.count.load(Relaxed),
            "size": table.size.load(Relaxed),
            "ttl": f64::from(table.ttl.load(Relaxed)) / TENTHS,
            "evicted": table.evicted.load(Relaxed),
            "memory": table.memory(),
        })
    }
}

fn client(settings: &UpstreamSettings, table: &Table, key: &str) -> Value {
    let found = table.look(Key::hash_of(key), Instant::now());
    let address = |id: u64| settings.endpoints.iter().find(|endpoint| endpoint.id == id).map(|one| &*one.address);
    json!({
        "key": key,
        "endpoint": found.and_then(|(id, _)| address(id)),
        "seen": found.map(|(_, ago)| f64::from(ago) / TENTHS),
    })
}

fn endpoints(settings: &UpstreamSettings, table: &Table) -> Value {
    let counts = table.counts();
    let row = |endpoint: &std::sync::Arc<crate::upstream::endpoint::Endpoint>| json!({"address": endpoint.address, "clients": counts.get(&endpoint.id).copied().unwrap_or(0)});
    settings.endpoints.iter().map(row).collect()
}

fn id_of(settings: &UpstreamSettings, address: &str) -> Result<u64, String> {
    let found = settings.endpoints.iter().find(|endpoint| endpoint.address == address);
    let known = || settings.endpoints.iter().map(|endpoint| &*endpoint.address).collect::<Vec<_>>().join(", ");
    let id = found.map(|endpoint| endpoint.id);
    id.ok_or_else(|| format!("no endpoint {address:?}: there are {}", known()))
}
