//! From whom a header is believed, and required.

use crate::fault::Fault;
use crate::network::Network;
use penstock_plan::ProxyProtocol;
use std::net::IpAddr;
use std::time::Duration;

/// Those whose connections begin with a header.
#[derive(Clone, Debug)]
pub struct Senders {
    networks: Vec<Network>,
    unix: bool,
    /// How long the whole header may take.
    pub timeout: Duration,
}

impl Senders {
    /// Those of a listener, the one at `path` of the plan.
    ///
    /// # Errors
    /// Each entry that is neither a network nor `"unix"`.
    pub fn build(plan: &ProxyProtocol, path: &str) -> Result<Senders, Vec<Fault>> {
        let (mut senders, mut faults) =
            (Senders { networks: Vec::new(), unix: false, timeout: plan.timeout }, Vec::new());
        for (at, text) in plan.from.iter().enumerate() {
            match (text.as_str(), text.parse()) {
                ("unix", _) => senders.unix = true,
                (_, Ok(network)) => senders.networks.push(network),
                (_, Err(error)) => {
                    faults.push(Fault::new(format!("{path}.from[{at}]"), format!("{text:?} is {error}")))
                }
            }
        }
        if faults.is_empty() { Ok(senders) } else { Err(faults) }
    }

    /// Whether a connection from there begins with a header; `None` is a unix socket.
    pub fn include(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(peer) => self.networks.iter().any(|network| network.contains(peer)),
            None => self.unix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_networks_and_unix_sockets() {
        let plan = |from: &[&str]| ProxyProtocol {
            from: from.iter().map(|text| (*text).into()).collect(),
            timeout: Duration::from_secs(3),
        };
        let senders = Senders::build(&plan(&["10.0.0.0/8", "unix"]), "p").unwrap();
        let include = |senders: &Senders, peer: &str| senders.include(Some(peer.parse().unwrap()));
        assert!(include(&senders, "10.1.2.3") && include(&senders, "::ffff:10.1.2.3") && senders.include(None));
        assert!(!include(&senders, "11.1.2.3") && !include(&senders, "::1"));
        assert!(!Senders::build(&plan(&["::1"]), "p").unwrap().include(None));
        let faults = Senders::build(&plan(&["10.0.0.0/8", "any"]), "listeners[0].proxy_protocol").unwrap_err();
        assert_eq!(faults[0].path, "listeners[0].proxy_protocol.from[1]");
    }
}
