//! Certificates and keys that are replaced on disk are used soon after, without a reload. A new file that cannot be used is warned of,
//! and what the old one held goes on.

use super::certificates::{Wrong, stamps};
use super::{Certificates, Credentials, SystemRoots, Tls, UpstreamTls};
use crate::observe::events::{Events, Level};
use crate::snapshot::Snapshot;
use crate::worker::Shared;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// So often the same files must fail before that is told: whoever replaces a certificate and then its key is not wrong in between.
const LOOKS: u32 = 2;
/// Looks at files that go on failing, between two tries: one, then twice as many each time, up to so many. What is in the files may be as
/// good as before when a disk is full, or no descriptor left.
const MOST_PAUSE: u32 = 60;

/// What tells a file from what it was before; `None`: it cannot be looked at.
pub(crate) type Stamp = Option<[u64; 5]>;

pub(crate) fn stamp(path: &str) -> Stamp {
    let file = fs::metadata(path).ok()?;
    // The time of a change counts, which chmod and chown set, too: what could not be read may be readable now. Times before 1970
    // only have to be told apart.
    Some([file.dev(), file.ino(), file.size(), file.ctime().cast_unsigned(), file.ctime_nsec().cast_unsigned()])
}

/// What files are looked after for.
enum Owner {
    Listener(Arc<Tls>),
    Upstream(Arc<UpstreamTls>),
}

/// Files that were found changed and could not be used.
struct Failing {
    stamps: Vec<Stamp>,
    /// How often.
    times: u32,
    /// Looks until the next try.
    pause: u32,
}

impl Failing {
    /// Whether they are tried at this look.
    fn is_due(&mut self) -> bool {
        let due = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        due
    }

    /// They failed; whether that is to be told.
    fn failed(&mut self) -> bool {
        self.times = self.times.saturating_add(1);
        if let Some(more) = self.times.checked_sub(LOOKS) {
            self.pause = 1u32.checked_shl(more).unwrap_or(MOST_PAUSE).min(MOST_PAUSE);
        }
        self.times == LOOKS
    }
}

/// What is looked after, and what became of it.
struct Watched {
    owner: Owner,
    failing: Option<Failing>,
    /// Statements of revocation that run out are told of once; `None`: those that are there were told of when they were read.
    stale: Option<usize>,
}

/// Look after the files of the running snapshot.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let snapshot = shared.snapshot.load_full();
        let mut before = std::mem::take(&mut watched);
        watched = snapshot
            .iter()
            .flat_map(|snapshot| owners(snapshot))
            .map(|owner| {
                let at = before.iter().position(|known| known.owner.is(&owner));
                at.map_or_else(|| Watched { owner, failing: None, stale: None }, |at| before.swap_remove(at))
            })
            .collect();
        drop(snapshot);
        if watched.is_empty() {
            continue;
        }
        let events = Arc::clone(&shared.events);
        // A disk that hangs holds up nothing else on this thread.
        let looked = tokio::task::spawn_blocking(move || {
            watched.iter_mut().for_each(|one| one.look(&events));
            watched
        });
        watched = looked.await.unwrap_or_default();
    }
}

fn owners(snapshot: &Snapshot) -> impl Iterator<Item = Owner> {
    let listeners = snapshot.listeners.iter().filter_map(|one| one.tls.clone()).map(Owner::Listener);
    let of_upstreams = snapshot.upstreams.iter().flat_map(|one| one.tls.iter().chain(&one.probe_tls));
    let of_origins = snapshot.forwards().filter_map(|forward| forward.tls.as_ref());
    let upstreams = of_upstreams.chain(of_origins).cloned().map(Owner::Upstream);
    listeners.chain(upstreams)
}

impl Owner {
    fn is(&self, other: &Owner) -> bool {
        match (self, other) {
            (Owner::Listener(one), Owner::Listener(other)) => Arc::ptr_eq(one, other),
            (Owner::Upstream(one), Owner::Upstream(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Of its files, as they are now; `None`: as they were when they were read.
    fn changed(&self) -> Option<Vec<Stamp>> {
        let (now, read) = match self {
            // It is read anew, which makes a new one.
            Owner::Listener(tls) if tls.plan.internal.is_some() && tls.certificates().is_due() => {
                return Some(stamps(&tls.plan));
            }
            Owner::Listener(tls) => (stamps(&tls.plan), tls.certificates().stamps.clone()),
            Owner::Upstream(tls) => (tls.current_stamps(), tls.credentials().stamps.clone()),
        };
        (now != read).then_some(now)
    }

    /// Read all files anew; their names, and what is doubtful about what they hold.
    fn renew(&self) -> Result<(String, Vec<Wrong>), Vec<Wrong>> {
        match self {
            Owner::Listener(tls) => {
                let certificates = Certificates::read(&tls.plan)?;
                let (paths, doubts) = (certificates.paths(), certificates.doubts(super::now()));
                tls.renew(Arc::new(certificates));
                Ok((paths, doubts))
            }
            Owner::Upstream(tls) => {
                tls.renew(&Arc::new(Credentials::read(&tls.plan, &SystemRoots::default())?));
                Ok((tls.paths(), Vec::new()))
            }
        }
    }
}

impl Watched {
    fn look_at_staples(&mut self, events: &Events) {
        let Owner::Listener(tls) = &self.owner else { return };
        let stale = tls.certificates().stale(super::now());
        let before = self.stale.replace(stale.len());
        if before.is_some_and(|before| stale.len() > before) {
            for (_, message) in stale {
                events.add(Level::Warning, "certificates", message, &[]);
            }
        }
    }

    fn look(&mut self, events: &Events) {
        self.look_at_staples(events);
        let Some(now) = self.owner.changed() else {
            self.failing = None;
            return;
        };
        let known = self.failing.take().filter(|failing| failing.stamps == now);
        let mut failing = known.unwrap_or(Failing { stamps: now, times: 0, pause: 0 });
        if !failing.is_due() {
            self.failing = Some(failing);
            return;
        }
        match self.owner.renew() {
            Ok((paths, doubts)) => {
                events.add(Level::Info, "certificates", format!("certificates read anew: {paths}"), &[]);
                for (_, doubt) in doubts {
                    events.add(Level::Warning, "certificates", doubt, &[]);
                }
                self.stale = None;
            }
            Err(wrong) => {
                if failing.failed() {
                    let goes_on = match self.owner {
                        Owner::Listener(_) => "the certificate before it is still served",
                        Owner::Upstream(_) => "endpoints are still spoken to with what it held before",
                    };
                    for (_, message) in wrong {
                        events.add(Level::Warning, "certificates", format!("{message}; {goes_on}"), &[]);
                    }
                }
                self.failing = Some(failing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_failing_is_tried_ever_more_rarely_and_told_once() {
        let mut failing = Failing { stamps: Vec::new(), times: 0, pause: 0 };
        let mut told = Vec::new();
        let tried: Vec<u32> = (0..300)
            .filter(|&look| {
                let due = failing.is_due();
                if due && failing.failed() {
                    told.push(look);
                }
                due
            })
            .collect();
        assert_eq!(tried, [0, 1, 3, 6, 11, 20, 37, 70, 131, 192, 253]);
        assert_eq!(told, [1]);
    }
}
