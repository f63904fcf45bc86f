//! What binds a client to an endpoint, and where its secret comes from.

mod report;
mod table;

pub(crate) use report::ask;
pub(crate) use table::{Table, TableAffinity};

use super::endpoint::Endpoint;
use penstock_plan::{Affinity as Plan, Secret, Upstream};
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
/// Longer ones are a mistake in the path.
const LONGEST: u64 = 64 << 10;

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
                Some(secret) => read(secret).map_err(fault)?,
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

/// The message of a failure never holds the secret.
fn read(secret: &Secret) -> Result<Vec<u8>, String> {
    let (mut bytes, place) = match secret {
        Secret::Env(name) => match std::env::var_os(name) {
            Some(value) => (value.into_encoded_bytes(), format!("the environment variable {name}")),
            None => return Err(format!("the environment variable {name} is not set")),
        },
        Secret::File(path) => {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
            read.map_err(|error| format!("{path} cannot be read: {error}"))?;
            (bytes, path.clone())
        }
    };
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    match bytes.len() {
        0..SHORTEST => Err(format!("{place} holds less than {SHORTEST} bytes: too short for a secret")),
        length if length as u64 > LONGEST => Err(format!("{place} is longer than a secret can be")),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
