//! Certificates that are replaced on disk are served soon after, without a reload. A new file that cannot be used is warned of, and
//! the old certificate goes on.

use super::{Certificates, Tls};
use crate::observe::events::{Events, Level};
use crate::worker::Shared;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// So often the same files must fail: whoever replaces a certificate and then its key is not wrong in between.
const LOOKS: u32 = 2;

/// What tells a file from what it was before; `None`: it cannot be looked at.
pub(super) type Stamp = Option<[u64; 5]>;

pub(super) fn stamp(path: &str) -> Stamp {
    let file = fs::metadata(path).ok()?;
    // Times before 1970 only have to be told apart.
    Some([file.dev(), file.ino(), file.size(), file.mtime().cast_unsigned(), file.mtime_nsec().cast_unsigned()])
}

/// Files of a listener that were found changed and could not be used, and how often.
struct Watched {
    tls: Arc<Tls>,
    failing: Option<(Vec<Stamp>, u32)>,
}

/// Look after the certificates of the running snapshot.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let snapshot = shared.snapshot.load_full();
        let running =
            snapshot.iter().flat_map(|snapshot| &snapshot.listeners).filter_map(|listener| listener.tls.clone());
        let mut before = std::mem::take(&mut watched);
        watched = running
            .map(|tls| {
                let at = before.iter().position(|known| Arc::ptr_eq(&known.tls, &tls));
                at.map_or_else(|| Watched { tls, failing: None }, |at| before.swap_remove(at))
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

impl Watched {
    fn look(&mut self, events: &Events) {
        let served = self.tls.certificates();
        let now = served.current_stamps();
        if now == served.stamps {
            self.failing = None;
            return;
        }
        let seen = self.failing.take().filter(|(stamps, _)| *stamps == now).map_or(0, |(_, count)| count);
        if seen >= LOOKS {
            self.failing = Some((now, seen));
            return;
        }
        match Certificates::read(&self.tls.plan) {
            Ok(certificates) => {
                events.add(
                    Level::Info,
                    "certificates",
                    format!("certificates read anew: {}", certificates.paths()),
                    &[],
                );
                for (_, doubt) in certificates.doubts(super::now()) {
                    events.add(Level::Warning, "certificates", doubt, &[]);
                }
                self.tls.renew(Arc::new(certificates));
            }
            Err(wrong) => {
                if seen + 1 == LOOKS {
                    for (_, message) in wrong {
                        let message = format!("{message}; the certificate before it is still served");
                        events.add(Level::Warning, "certificates", message, &[]);
                    }
                }
                self.failing = Some((now, seen + 1));
            }
        }
    }
}
