//! The forward proxy's decisions: for whom it goes out, and where to. Names are known only by then; what an address is, is asked of
//! the one that is really connected to (safety.md 147 to 151).

mod address;
mod help;
mod parent;
mod pinned;
mod privacy;
mod rules;
pub mod socks;

pub use address::is_public;
pub use help::{About, Help, Reached, pac, page};
pub use parent::{Asking, Next, Parent, Refused, is_localhost, literal};
pub use pinned::{Pinned, Sign};
pub use privacy::Outward;
pub use rules::{Decided, Errand, Moment, Rule, Rules};

use crate::error::Kind;
use crate::fault::Fault;
use crate::network::Network;
use penstock_plan::Forward;
use std::net::IpAddr;

/// Ports of protocols that a request could be mistaken in (WHATWG Fetch §2.9, "port blocking").
const BAD_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Who may go where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    clients: Vec<Network>,
    ports: Vec<(u16, u16)>,
    private: bool,
}

impl Leave {
    /// As a plan says; `path` is where its part is.
    ///
    /// # Errors
    /// All faults of this part.
    pub fn build(plan: &Forward, path: &str) -> Result<Leave, Vec<Fault>> {
        let mut faults = Vec::new();
        let clients = plan.allow_clients.iter().enumerate().filter_map(|(at, text)| {
            let wrong = |error| Fault::new(format!("{path}.allow_clients[{at}]"), format!("{text:?} is {error}"));
            text.parse().map_err(|error| faults.push(wrong(error))).ok()
        });
        let clients = clients.collect();
        if faults.is_empty() {
            Ok(Leave { clients, ports: plan.connect_ports.clone(), private: plan.allow_private })
        } else {
            Err(faults)
        }
    }

    /// Whether this client is served; `None` is one that came over a unix socket.
    ///
    /// # Errors
    /// `ClientForbidden`.
    pub fn client(&self, client: Option<IpAddr>) -> Result<(), Kind> {
        let served = client.is_none_or(|client| {
            client.to_canonical().is_loopback() || self.clients.iter().any(|network| network.contains(client))
        });
        if served { Ok(()) } else { Err(Kind::ClientForbidden) }
    }

    /// Whether a tunnel, or a request, may go to this port.
    ///
    /// # Errors
    /// `PortForbidden`.
    pub fn port(&self, port: u16, tunnel: bool) -> Result<(), Kind> {
        let allowed = match tunnel {
            true => self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port)),
            false => BAD_PORTS.binary_search(&port).is_err(),
        };
        if allowed { Ok(()) } else { Err(Kind::PortForbidden) }
    }

    /// Whether this address may be connected to.
    pub fn address(&self, address: IpAddr) -> bool {
        // What stands for no host, or for many, is none to connect to in any case.
        let address = address.to_canonical();
        !address.is_unspecified() && !address.is_multicast() && (self.private || is_public(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn leave(clients: &[&str], private: bool) -> Result<Leave, Vec<Fault>> {
        let wait = Duration::from_secs(1);
        let plan = Forward {
            allow_clients: clients.iter().map(|&client| client.into()).collect(),
            users: None,
            connect_ports: vec![(443, 443), (8000, 8100)],
            allow_private: private,
            parent: None,
            rules: Vec::new(),
            forwarded_for: penstock_plan::Told::Delete,
            forwarded: penstock_plan::Told::Delete,
            via: true,
            anonymous: false,
            tls: penstock_plan::UpstreamTls {
                ca: None,
                name: None,
                certificate: None,
                insecure: false,
                min_version: penstock_plan::TlsVersion::Tls12,
            },
            interception: None,
            timeouts: penstock_plan::UpstreamTimeouts {
                connect: wait,
                head: wait,
                body: wait,
                write: wait,
                idle: wait,
            },
            limits: penstock_plan::UpstreamLimits {
                head: 1,
                fields: 1,
                interim: 1,
                streams: 1,
                idle_connections: 1,
                connections: None,
                pending: None,
                requests: None,
            },
        };
        Leave::build(&plan, "forward")
    }

    #[test]
    fn clients_of_this_machine_are_served_and_others_if_they_are_named() {
        let none = leave(&[], false).unwrap();
        let some = leave(&["10.0.0.0/8"], false).unwrap();
        for (client, by_none, by_some) in [
            (Some("127.0.0.1"), true, true),
            (Some("::ffff:127.3.2.1"), true, true),
            (Some("::1"), true, true),
            (Some("10.1.2.3"), false, true),
            (Some("::ffff:10.1.2.3"), false, true),
            (Some("192.0.2.1"), false, false),
            (None, true, true),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            assert_eq!((none.client(client).is_ok(), some.client(client).is_ok()), (by_none, by_some), "{client:?}");
        }
        assert_eq!(leave(&["10.0.0.0/8", "x"], false).unwrap_err()[0].path, "forward.allow_clients[1]");
    }

    #[test]
    fn ports_are_those_that_were_named_or_of_no_other_protocol() {
        let leave = leave(&[], false).unwrap();
        for (port, tunnel, request) in [
            (443, true, true),
            (80, false, true),
            (25, false, false),
            (22, false, false),
            (8000, true, true),
            (8100, true, true),
            (8101, false, true),
            (6667, false, false),
        ] {
            assert_eq!((leave.port(port, true).is_ok(), leave.port(port, false).is_ok()), (tunnel, request), "{port}");
        }
        assert!(BAD_PORTS.is_sorted());
    }

    #[test]
    fn private_addresses_are_allowed_only_where_they_are() {
        let (strict, wide) = (leave(&[], false).unwrap(), leave(&[], true).unwrap());
        for (address, by_strict, by_wide) in [
            ("192.168.1.1", false, true),
            ("127.0.0.1", false, true),
            ("93.184.215.14", true, true),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
            ("::ffff:0.0.0.0", false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!((strict.address(address), wide.address(address)), (by_strict, by_wide), "{address}");
        }
    }
}
