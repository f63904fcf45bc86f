//! Who of a listener's clients have a name and a password, and whether that is theirs.
//!
//! To look at a password takes a good part of a second, on purpose. So it is done on threads of its own, few at once; what was found to
//! be right is remembered, in a form that tells nothing; and who is wrong too often is not heard any more.

mod file;

pub(crate) use file::follow;

use crate::addon::Addon;
use crate::admit::Pace;
use crate::worker::Worker;
use ahash::AHashMap;
use arc_swap::ArcSwap;
use file::State;
use penstock_plan::Users as Plan;
use penstock_rules::affinity::table::{Bonds, Tenths};
use penstock_rules::error::Kind;
use penstock_rules::limit;
use penstock_rules::users::{Hash, Login, Proof, Users as Known, proof, proof_of};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Passwords that wait to be looked at, or are; for one more there is no room.
const MOST_WAITING: usize = 256;
/// How long one waits.
const WAIT: Duration = Duration::from_secs(10);
/// How long what was found to be right is remembered after it was last asked for, in tenths of a second.
const REMEMBERED: Tenths = 6000;
/// How long what an add-on found to be right is remembered at most, in seconds: who is no user any more, it alone knows.
const TERM: u64 = 60;
/// Workers that ask for different users seldom meet at the same lock.
const PARTS: usize = 16;
/// Logins that are remembered in each part: 16 384 in all, which take 800 KB. Who is forgotten is looked at anew.
const MOST_PROVEN: usize = 1024;

/// The users of a listener: of all workers, and kept over reloads that leave them alone.
pub(crate) struct Users {
    pub(crate) plan: Plan,
    /// What asks for a name and a password.
    pub(crate) challenge: String,
    known: ArcSwap<Known>,
    file: Mutex<State>,
    /// What is asked in place of a file.
    addon: Option<Arc<Addon>>,
    began: Instant,
    secret: [u8; 32],
    /// What was found to be right: the halves of proofs.
    proven: [Mutex<Bonds>; PARTS],
    /// What is being looked at: whoever asks the same waits for the same answer.
    asked: Mutex<AHashMap<Proof, watch::Receiver<Answer>>>,
    line: Line,
    guesses: Pace,
    /// Passwords that were looked at.
    checks: AtomicU64,
}

/// The threads that look at passwords have so many places, in the whole process.
pub(crate) type Line = Arc<Semaphore>;

type Answer = Option<Result<(), Kind>>;

/// Half as many threads as there are workers: the rest is for those who are known.
pub(crate) fn line(workers: usize) -> Line {
    Arc::new(Semaphore::new((workers / 2).max(1)))
}

/// Whose turn it is.
enum Turn<'u> {
    /// It is known by now.
    Proven,
    Own(Asking<'u>),
    /// Somebody asks the same.
    Others(watch::Receiver<Answer>),
}

/// A place among what is being looked at, until it is dropped.
struct Asking<'u> {
    users: &'u Users,
    proof: Proof,
    tell: watch::Sender<Answer>,
}

impl Users {
    /// Whether this login is a user's. `client`: who says so, `None` where it comes over a unix socket.
    ///
    /// # Errors
    /// `UserRefused`, `GuessRate`, `UsersBusy`, or what became of an add-on's call.
    pub(crate) async fn prove(&self, worker: &Worker, login: &Login, client: Option<IpAddr>) -> Result<(), Kind> {
        let Some(addon) = &self.addon else { return self.prove_by_file(login, client).await };
        let term = (self.began.elapsed().as_secs() / TERM).to_string();
        let look = addon.authenticate(worker, login);
        self.once((proof_of(&self.secret, &term, login), true), client, look).await
    }

    /// The same against the hashes of the file.
    async fn prove_by_file(&self, login: &Login, client: Option<IpAddr>) -> Result<(), Kind> {
        let known = self.known.load_full();
        let found = known.find(&login.user);
        // Nobody's password is held against somebody's, so that time does not tell who is a user.
        let Some(hash) = found.or_else(|| known.decoy(&login.user)) else { return Err(Kind::UserRefused) };
        let look = self.look((hash, found.is_some()), login);
        self.once((proof(&self.secret, hash, login), found.is_some()), client, look).await
    }

    /// Look, unless that was found to be right already, or somebody looks at the same.
    async fn once(
        &self,
        (proof, is_user): (Proof, bool),
        client: Option<IpAddr>,
        look: impl Future<Output = Result<(), Kind>>,
    ) -> Result<(), Kind> {
        let mut look = pin!(look);
        loop {
            match self.enter(proof, is_user)? {
                Turn::Proven => return Ok(()),
                Turn::Own(asking) => {
                    let answer = self.charge(client, look.as_mut()).await;
                    asking.end(answer);
                    return answer;
                }
                Turn::Others(mut others) => {
                    // One that ends without an answer had a client that went away: then it is our turn.
                    if others.changed().await.is_ok()
                        && let Some(answer) = *others.borrow()
                    {
                        return answer;
                    }
                }
            }
        }
    }

    /// Who is no user, or none any more, was never right.
    fn enter(&self, proof: Proof, is_user: bool) -> Result<Turn<'_>, Kind> {
        if is_user && self.is_proven(proof) {
            return Ok(Turn::Proven);
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = asked.get(&proof) {
            return Ok(Turn::Others(others.clone()));
        }
        // What is right is remembered before it is no longer asked.
        if is_user && self.is_proven(proof) {
            return Ok(Turn::Proven);
        }
        if asked.len() >= MOST_WAITING {
            return Err(Kind::UsersBusy);
        }
        let (tell, heard) = watch::channel(None);
        asked.insert(proof, heard);
        Ok(Turn::Own(Asking { users: self, proof, tell }))
    }

    /// Look at a password, when there is a thread for it.
    async fn look(&self, (hash, is_user): (&Arc<Hash>, bool), login: &Login) -> Result<(), Kind> {
        match timeout(WAIT, Arc::clone(&self.line).acquire_owned()).await {
            Ok(Ok(place)) => {
                self.checks.fetch_add(1, Relaxed);
                let right = is_of(Arc::clone(hash), login.clone(), place).await;
                if is_user { right } else { right.and(Err(Kind::UserRefused)) }
            }
            _ => Err(Kind::UsersBusy),
        }
    }

    /// Guesses are charged beforehand: many at once are as many.
    async fn charge(
        &self,
        client: Option<IpAddr>,
        look: Pin<&mut impl Future<Output = Result<(), Kind>>>,
    ) -> Result<(), Kind> {
        let client = limit::client_of(client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        if !self.guesses.admit_of(&self.plan.attempts, client) {
            return Err(Kind::GuessRate);
        }
        let answer = look.await;
        if answer != Err(Kind::UserRefused) {
            self.guesses.give_back_of(&self.plan.attempts, client);
        }
        answer
    }

    fn is_proven(&self, proof: Proof) -> bool {
        self.part(proof).see(proof[0], self.now(), REMEMBERED) == Some(proof[1])
    }

    fn remember(&self, proof: Proof) {
        let (mut part, now) = (self.part(proof), self.now());
        part.expire(now, REMEMBERED, 2);
        if part.len() >= MOST_PROVEN {
            part.evict();
        }
        part.remove(proof[0]);
        part.bind(proof[0], None, proof[1], now);
    }

    /// By the bits that its place in the part is not chosen by.
    fn part(&self, proof: Proof) -> MutexGuard<'_, Bonds> {
        self.proven[(proof[0] >> 60) as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Tenths {
        Tenths::try_from(self.began.elapsed().as_millis() / 100).unwrap_or(Tenths::MAX)
    }

    /// How they stand, for people.
    pub(crate) fn stats(&self) -> Value {
        json!({
            "count": if self.addon.is_some() { Value::Null } else { self.known.load().len().into() },
            "checks": self.checks.load(Relaxed),
            "trouble": self.trouble(),
        })
    }
}

/// Whether the hash is that of the password.
async fn is_of(hash: Arc<Hash>, login: Login, place: OwnedSemaphorePermit) -> Result<(), Kind> {
    let looked = spawn_blocking(move || {
        let right = hash.is_of(&login.password);
        drop(place);
        right
    });
    match looked.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Kind::UserRefused),
        Err(_) => Err(Kind::Internal),
    }
}

impl Asking<'_> {
    fn end(self, answer: Result<(), Kind>) {
        if answer.is_ok() {
            self.users.remember(self.proof);
        }
        // Whether somebody waits for it is no matter.
        let _ = self.tell.send(Some(answer));
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.users.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.proof);
    }
}

#[cfg(test)]
mod tests;
