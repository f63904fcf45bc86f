//! Memory of the process against its limit: what is configured, or what its control group leaves it.

use crate::buffers::SMALL;
use crate::observe::events::Level;
use crate::worker::Shared;
use penstock_rules::pressure::{self, Pressure};
use penstock_system::memory;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Limits beyond this are none: a group without one says the largest number it has.
const NONE: u64 = 1 << 60;
/// Control groups that are looked at from the process's own upwards.
const DEPTH: usize = 16;

/// How long nothing new is taken in after memory could not be had.
const EXHAUSTED: Duration = Duration::from_secs(1);

/// Watches the memory of the process.
pub(super) struct Memory {
    group: Option<Group>,
    pressure: Pressure,
    /// Allocations that had failed by the last look, and until when that matters.
    failed: u64,
    exhausted: Option<Instant>,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory { group: Group::find(), pressure: Pressure::None, failed: 0, exhausted: None }
    }

    pub(super) fn look(&mut self, shared: &Shared) {
        let Some(snapshot) = shared.snapshot.load_full() else { return };
        // A tenth is left for what is not ours: files that were read, and sockets' buffers.
        let of_group = self.group.as_ref().map(|group| group.limit / 10 * 9);
        let limit = match snapshot.plan.engine.memory {
            Some(0) => None,
            set => set.or(of_group),
        };
        let used = limit.and_then(|_| {
            let resident = resident()?;
            // A limit of our own is for our memory, that of a group for whatever the group holds.
            let group = self.group.as_ref().filter(|_| snapshot.plan.engine.memory.is_none());
            Some(group.and_then(Group::used).map_or(resident, |used| used.max(resident)))
        });
        shared.memory.limit.store(limit.unwrap_or(0), Relaxed);
        shared.memory.used.store(used.unwrap_or(0), Relaxed);
        if self.is_exhausted(Instant::now()) {
            shared.memory.room.store(0, Relaxed);
            return self.turn(shared, Pressure::Over, (used.unwrap_or(0), limit.unwrap_or(0)));
        }
        let (Some(limit), Some(used)) = (limit, used) else {
            shared.memory.room.store(u64::MAX, Relaxed);
            return self.turn(shared, Pressure::None, (0, 0));
        };
        let requests = shared.counters.sum(|counters| counters.requests.get());
        let busy = requests > 0;
        // Each request that is under way will want a buffer when its bytes come.
        let due = (requests * SMALL as u64).saturating_sub(shared.counters.sum(|counters| counters.lent.get()));
        let used = used.saturating_add(due);
        shared.memory.room.store(pressure::room(used, limit, busy), Relaxed);
        self.turn(shared, self.pressure.next(used, limit, busy), (used, limit));
    }

    /// Whether memory could not be had a moment ago, whatever the limit is.
    fn is_exhausted(&mut self, now: Instant) -> bool {
        let failed = memory::failed();
        if failed != self.failed {
            (self.failed, self.exhausted) = (failed, Some(now + EXHAUSTED));
        }
        self.exhausted = self.exhausted.filter(|until| now < *until);
        self.exhausted.is_some()
    }

    fn turn(&mut self, shared: &Shared, next: Pressure, (used, limit): (u64, u64)) {
        if next == self.pressure {
            return;
        }
        shared.memory.pressure.store(next as u8, Relaxed);
        // Requests that are refused end, and others come: between the two it changes often. What is told is the way in and
        // out, and the first refusal on the way.
        let worse = next > self.pressure && self.pressure < Pressure::Over;
        self.pressure = next;
        let (level, what) = match next {
            Pressure::None => (Level::Info, "enough again"),
            Pressure::Shedding if worse => (Level::Warning, "short: idle connections are closed"),
            Pressure::Over if self.exhausted.is_some() && worse => {
                (Level::Warning, "not to be had: idle connections are closed and new requests refused")
            }
            Pressure::Over if worse => (Level::Warning, "at its limit: new requests are refused"),
            _ => return,
        };
        let message = format!("memory is {what} ({} of {} MB)", used >> 20, limit >> 20);
        let fields = [("used", json!(used)), ("limit", json!(limit)), ("pressure", json!(next as u8))];
        shared.events.add(level, "memory", message, &fields);
    }
}

/// Resident memory of the process, in bytes.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?;
    kilobytes.parse::<u64>().ok()?.checked_mul(1024)
}

/// A control group with a limit, of either version (cgroups(7)).
struct Group {
    folder: PathBuf,
    limit: u64,
    used: &'static str,
    cache: &'static str,
}

impl Group {
    /// The tightest of the groups that the process is in.
    fn find() -> Option<Group> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        groups.lines().filter_map(Group::of_line).min_by_key(|group| group.limit)
    }

    /// The tightest group on one line of `/proc/PID/cgroup`.
    fn of_line(line: &str) -> Option<Group> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, limit, used, cache) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "file "),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache ")
            }
            _ => return None,
        };
        let own = PathBuf::from(format!("{root}{path}"));
        // In a container, the path is the host's and the root is the container's own.
        let folders = own.ancestors().take(DEPTH).take_while(|folder| folder.starts_with(root));
        folders
            .filter_map(|folder| {
                let limit = number(&folder.join(limit)).filter(|limit| *limit < NONE)?;
                Some(Group { folder: folder.to_owned(), limit, used, cache })
            })
            .min_by_key(|group| group.limit)
    }

    /// What it holds, without the files that the kernel would drop first.
    fn used(&self) -> Option<u64> {
        let all = number(&self.folder.join(self.used))?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        let cache = stat.lines().find_map(|line| line.strip_prefix(self.cache)?.parse::<u64>().ok())?;
        Some(all.saturating_sub(cache))
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_a_size() {
        assert!(resident().is_some_and(|bytes| (1 << 20..1 << 40).contains(&bytes)));
    }

    #[test]
    fn lines_without_memory_name_no_group() {
        for line in ["", "1:cpu:/a", "nonsense", "0::/../../../etc", "4:memory:/../../proc"] {
            assert!(Group::of_line(line).is_none(), "{line}");
        }
    }
}
