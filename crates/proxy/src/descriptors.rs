//! How many descriptors the process may open, and has open.

use penstock_rules::limit;
use std::fs;

/// Descriptors that are open now.
pub(crate) fn open() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64
}

/// Client connections that each of `workers` has descriptors for where `open` are taken by others; no limit where the system
/// does not say.
pub(crate) fn connections_each(open: u64, workers: usize) -> u64 {
    let limit = fs::read_to_string("/proc/self/limits").ok().and_then(|limits| soft_limit(&limits));
    limit.map_or(u64::MAX, |limit| limit::connections_each(limit, open, workers as u64))
}

/// The soft limit of descriptors in the text of `/proc/PID/limits` (proc(5)); `None` if it is unlimited.
fn soft_limit(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit    Soft Limit  Hard Limit  Units\nMax open files            1024       4096       files\n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit("Max open files            unlimited       unlimited       files\n"), None);
        assert_eq!(soft_limit("Max processes 1 2 processes\n"), None);
    }
}
