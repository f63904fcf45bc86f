//! Limits as arithmetic: who counts as one client, and how many connections a number of descriptors carries.

pub mod rate;
pub mod throttle;

use std::net::{IpAddr, Ipv6Addr};

/// The part of an address that stands for one client: all of an IPv4 address, the network of an IPv6 one, because whoever has
/// an IPv6 address has the other 2^64 of its network as well.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// Descriptors kept free for what is no client's: the admin listener, the control socket, probes, names, logs, a reload.
const RESERVED: u64 = 48;

/// Copies of requests that a worker has under way at most; with their bodies they take 16 MB.
const MOST_COPIES: u64 = 256;

/// Client connections of one worker that fit into `descriptors`, of which `open` are in use before the first client comes.
///
/// Each is given two and a half: its own, one to an endpoint, and half of one for the pools. At least one.
pub fn connections_each(descriptors: u64, open: u64, workers: u64) -> u64 {
    let left = descriptors.saturating_sub(open).saturating_sub(RESERVED);
    (left.saturating_mul(2) / 5 / workers.max(1)).max(1)
}

/// Connections whose descriptors `sessions` of datagrams take: each has one, to its endpoint.
pub fn connections_for(sessions: u64) -> u64 {
    sessions.saturating_mul(2).div_ceil(5)
}

/// Sessions of datagrams that each of `workers` may have where all may have `most`.
pub fn sessions_each(most: u32, workers: usize) -> usize {
    (most as usize / workers.max(1)).max(1)
}

/// Unused connections that a worker may keep to one of `endpoints`, if it may have so many client connections.
pub fn pooled_each(connections: u64, endpoints: usize) -> usize {
    let pooled = usize::try_from(connections / 2).unwrap_or(usize::MAX);
    (pooled / endpoints.max(1)).max(1)
}

/// Copies of requests that a worker may have under way: the descriptors of clients that could come and have not.
pub fn copies(connections: u64, open: u64) -> u64 {
    MOST_COPIES.min(connections.saturating_sub(open))
}

/// Pipes that a worker has open at most, for bulk of layer 4; each may hold 256 KB of the system's memory.
const MOST_PIPES: u64 = 64;

/// Pipes, of two descriptors each, that a worker may have open: half as many as clients that could come and have not, so that there is
/// room for copies as well.
pub fn pipes(connections: u64, open: u64) -> u64 {
    MOST_PIPES.min(connections.saturating_sub(open) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_client() {
        let client = |text: &str| client_of(text.parse().unwrap()).to_string();
        assert_eq!(client("192.0.2.7"), "192.0.2.7");
        assert_eq!(client("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(client("2001:db8:0:1:aaaa::1"), "2001:db8:0:1::");
        assert_eq!(client("2001:db8:0:1:ffff:ffff:ffff:ffff"), client("2001:db8:0:1::1"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:2::1"));
    }

    #[test]
    fn sessions_of_datagrams_and_connections_fit_into_the_descriptors_together() {
        let connections = connections_each(20_000, 100, 2);
        for sessions in [0, 1, connections / 2, connections] {
            let left = connections - connections_for(sessions);
            assert!(2 * (left * 5 / 2 + sessions) + 100 + RESERVED <= 20_000, "{sessions}");
        }
        assert_eq!((sessions_each(100, 4), sessions_each(2, 4), sessions_each(9, 0)), (25, 1, 9));
    }

    #[test]
    fn copies_take_no_clients_descriptors() {
        for (connections, open, expected) in [(u64::MAX, 9, 256), (300, 9, 256), (300, 290, 10), (300, 301, 0)] {
            assert_eq!(copies(connections, open), expected);
        }
    }

    #[test]
    fn pipes_and_copies_fit_into_what_clients_leave() {
        for (connections, open, expected) in [(u64::MAX, 9, 64), (300, 9, 64), (30, 9, 10), (30, 29, 0), (30, 31, 0)] {
            assert_eq!(pipes(connections, open), expected);
            let left = connections.min(1 << 20).saturating_sub(open);
            assert!(2 * (2 * pipes(connections, open) + copies(connections, open)) <= 5 * left);
        }
    }

    #[test]
    fn connections_endpoints_pools_and_reserve_fit_into_the_descriptors() {
        for (descriptors, open, workers) in [(256, 30, 2), (1024, 30, 1), (20_000, 100, 16), (1 << 20, 400, 64)] {
            let connections = connections_each(descriptors, open, workers);
            let pooled = pooled_each(connections, 3) as u64 * 3;
            assert!(workers * (2 * connections + pooled) + open + RESERVED <= descriptors, "{descriptors}");
            assert!(connections * workers >= (descriptors - open - RESERVED) * 2 / 5 - workers, "{descriptors}");
        }
        assert_eq!(connections_each(64, 60, 2), 1);
        assert_eq!(pooled_each(u64::MAX, 1), usize::try_from(u64::MAX / 2).unwrap_or(usize::MAX));
    }
}
