//! Names of endpoints, asked again as their answers run out. A name that stops answering keeps its last addresses
//! (safety.md 179).

use super::endpoint::{Endpoint, Place};
use crate::observe::events::Level;
use crate::worker::Shared;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use penstock_plan::{Dns, Family};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most addresses taken from one answer.
const ADDRESSES: usize = 64;
/// An answer is kept at least and at most so long, whatever it says.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(300);
/// A name without an answer is asked again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// A resolver that asks these servers, or those of the system where there are none; the system's hosts file is included. One without
/// servers where the system has none.
pub(crate) fn resolver(dns: &Dns) -> Option<TokioResolver> {
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.ip_strategy = match dns.prefer {
        Family::Ipv4 => LookupIpStrategy::Ipv4AndIpv6,
        Family::Ipv6 => LookupIpStrategy::Ipv6AndIpv4,
    };
    let servers: Vec<_> = dns.servers.iter().filter_map(|server| Some(name_server(server.parse().ok()?))).collect();
    let builder = if servers.is_empty() {
        TokioResolver::builder_tokio()
            .unwrap_or_else(|_| TokioResolver::builder_with_config(ResolverConfig::default(), Default::default()))
    } else {
        TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), Default::default())
    };
    builder.with_options(options).build().ok()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    // TCP for answers that a datagram does not hold.
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Ask once. The addresses, and how long they hold.
///
/// # Errors
/// What the resolver says.
pub(crate) async fn ask(
    resolver: &TokioResolver,
    name: &str,
    port: u16,
) -> Result<(Vec<SocketAddr>, Duration), String> {
    let answer = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
    let mut addresses: Vec<SocketAddr> = answer.iter().take(ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect();
    // Where both kinds are given, both are tried.
    let ipv6_first = resolver.options().ip_strategy == LookupIpStrategy::Ipv6AndIpv4;
    addresses.sort_by_key(|address| (address.is_ipv6() != ipv6_first, *address));
    addresses.dedup();
    let wait = answer.valid_until().saturating_duration_since(Instant::now()).clamp(LEAST, MOST);
    if addresses.is_empty() { Err("the name has no address".into()) } else { Ok((addresses, wait)) }
}

/// Addresses in the order in which they are raced: both kinds by turns, beginning with that of the first (RFC 8305 §4), so that a kind
/// which leads nowhere costs the start of one address and not of all.
pub(crate) fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut own, mut other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut own, mut other) = (own.drain(..), other.drain(..));
    let mut turns = Vec::new();
    loop {
        match (own.next(), other.next()) {
            (None, None) => return turns,
            (one, two) => turns.extend(one.into_iter().chain(two)),
        }
    }
}

/// Ask for the name of `endpoint` and note the answer; how long until it is to be asked again, or why there was none.
pub(crate) async fn refresh(resolver: &TokioResolver, endpoint: &Endpoint) -> Asked {
    let Place::Tcp { name: Some((name, port)), addresses } = &endpoint.place else { return Ok(MOST) };
    let (found, wait) = ask(resolver, name, *port).await?;
    if **addresses.load() != found {
        addresses.store(Arc::new(found));
    }
    Ok(wait)
}

/// What was asked of a name once, before it is followed: how long the answer holds, or why there was none.
pub(crate) type Asked = Result<Duration, String>;

/// Keep the addresses of `endpoint` fresh for as long as this runs. `asked`: what was asked just before; whoever did has told of a
/// failure.
pub(crate) async fn follow(
    resolver: Arc<TokioResolver>,
    endpoint: Arc<Endpoint>,
    shared: Arc<Shared>,
    asked: Option<Asked>,
) {
    let mut failing = matches!(asked, Some(Err(_)));
    if let Some(asked) = asked {
        tokio::time::sleep(asked.unwrap_or(AGAIN)).await;
    }
    loop {
        let wait = match refresh(&resolver, &endpoint).await {
            Ok(wait) => {
                if failing {
                    shared.events.add(Level::Info, "resolve", format!("{} resolves again", endpoint.address), &[]);
                }
                failing = false;
                wait
            }
            Err(reason) => {
                if !failing {
                    let message = format!("{} does not resolve: {reason}", endpoint.address);
                    shared.events.add(Level::Warning, "resolve", message, &[("endpoint", json!(endpoint.address))]);
                }
                failing = true;
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_addresses_take_turns() {
        for (given, raced) in
            [("", ""), ("1 2 3", "1 2 3"), ("1 2 3 a b", "1 a 2 b 3"), ("a 1 2", "a 1 2"), ("a b c 1", "a 1 b c")]
        {
            let read = |text: &str| -> Vec<SocketAddr> {
                let one = |name: &str| match name.parse::<u8>() {
                    Ok(number) => SocketAddr::from(([192, 0, 2, number], 80)),
                    Err(_) => format!("[2001:db8::{name}]:80").parse().unwrap(),
                };
                text.split_whitespace().map(one).collect()
            };
            assert_eq!(by_turns(read(given)), read(raced), "{given}");
        }
    }
}
