//! What binds a client to an endpoint, and where its secret comes from.

mod report;
mod table;

pub(crate) use report::ask;
pub(crate) use table::{Table, TableAffinity};

use super::endpoint::Endpoint;
use crate::secret;
use penstock_plan::{Affinity as Plan, Upstream};
use penstock_rules::affinity::CookieAffinity;
use penstock_rules::fault::Fault;
use penstock_rules::route::{Key, View};
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

/// How a client of this upstream is known again.
pub(crate) enum Affinity {
    Cookie(CookieAffinity),
    Key(Key),
    Table(Arc<TableAffinity>),
}

/// To what a client is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    /// To nothing.
    None,
    /// To this endpoint, as its cookie says.
    Endpoint(usize),
    /// To the endpoint that this key prefers.
    Key(u64),
    /// To the endpoint that a table has for this key, and if it has none, to the one that is picked.
    Table(u64),
}

impl Affinity {
    /// To what somebody is bound that is seen so: a connection, or a request whose cookies were looked at.
    pub(crate) fn of(&self, view: &View<'_>) -> Bond {
        match self {
            Affinity::Cookie(_) => Bond::None,
            Affinity::Key(key) => key.hash(view).map_or(Bond::None, Bond::Key),
            Affinity::Table(affinity) => affinity.key.hash(view).map_or(Bond::None, Bond::Table),
        }
    }
}

/// The secret of this process, for cookies without one in the configuration: made when first needed, kept over reloads.
#[derive(Debug, Default)]
pub(crate) struct OwnSecret(OnceLock<[u8; SECRET]>);

const SECRET: usize = 32;
/// Shorter ones could be guessed.
const SHORTEST: usize = 16;

/// The affinity of an upstream with these endpoints, which stands at `path` in the plan. `known` is the table that the upstream has.
///
/// # Errors
/// What is wrong with its key, or why its secret cannot be had.
pub(crate) fn build(
    plan: &Upstream,
    (own, known): (&OwnSecret, Option<&Arc<Table>>),
    endpoints: &[Arc<Endpoint>],
    path: &str,
) -> Result<Option<Affinity>, Vec<Fault>> {
    match &plan.affinity {
        None => Ok(None),
        Some(Plan::Table(plan)) => {
            let key = Key::compile(&plan.key, &format!("{path}.table.key"))?;
            // Who is known by something else is nobody that it knows.
            let table = known.filter(|known| known.key == plan.key).cloned();
            let table = table.unwrap_or_else(|| Arc::new(Table::new(plan)));
            let ids = endpoints.iter().map(|endpoint| endpoint.id);
            Ok(Some(Affinity::Table(Arc::new(TableAffinity::new(key, plan, table, ids)))))
        }
        Some(Plan::Key(key)) => Key::compile(key, &format!("{path}.key")).map(|key| Some(Affinity::Key(key))),
        Some(Plan::Cookie(cookie)) => {
            let fault = |message: String| vec![Fault::new(format!("{path}.cookie.secret"), message)];
            let secret = match &cookie.secret {
                None => own.get().map_err(|error| fault(format!("the system gives no random bytes: {error}")))?,
                Some(secret) => secret::read(secret, SHORTEST).map_err(fault)?,
            };
            let addresses = plan.endpoints.iter().map(|endpoint| endpoint.address.as_str());
            Ok(Some(Affinity::Cookie(CookieAffinity::build(&cookie.name, &secret, &plan.name, addresses))))
        }
    }
}

impl OwnSecret {
    fn get(&self) -> io::Result<Vec<u8>> {
        if let Some(secret) = self.0.get() {
            return Ok(secret.to_vec());
        }
        let mut secret = [0; SECRET];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        Ok(self.0.get_or_init(|| secret).to_vec())
    }
}

#[cfg(test)]
mod tests;
