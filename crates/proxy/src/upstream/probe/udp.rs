//! A probe that is a datagram, and one that comes back.

use penstock_rules::health::{MOST, Outcome, UdpQuestion};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// Ask the first of `addresses`; who does not answer is waited for until the probe's time is over. `None`: that we have nothing left to
/// ask with says nothing of the endpoint.
pub(super) async fn ask(addresses: &[SocketAddr], question: &UdpQuestion) -> Option<Outcome> {
    let Some(address) = addresses.first() else { return Some(Outcome::Unresolved) };
    match exchange(*address, question).await {
        Ok(outcome) => Some(outcome),
        Err(error) => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => None,
            Some(libc::ECONNREFUSED) => Some(Outcome::Refused),
            _ => Some(Outcome::Unreachable),
        },
    }
}

async fn exchange(address: SocketAddr, question: &UdpQuestion) -> io::Result<Outcome> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected, so that nobody else answers, and that a port where nobody listens is told of.
    socket.connect(address).await?;
    socket.send(question.request()).await?;
    let mut reply = vec![0; MOST];
    let count = socket.recv(&mut reply).await?;
    Ok(question.judge(reply.get(..count).unwrap_or_default()))
}
