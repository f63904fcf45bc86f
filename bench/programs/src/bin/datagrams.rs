//! Datagrams for a relay to carry: `datagrams echo LISTEN` sends each back, `datagrams load ADDRESS CLIENTS DEPTH SIZE SECONDS` has so
//! many clients, each with `DEPTH` datagrams on their way, and prints `carried N`: those that came back in that time.
//! `datagrams churn ADDRESS SECONDS` asks from a new client each time, as resolvers do. `datagrams hold ADDRESS CLIENTS` asks once from
//! each of so many, prints `open N`, and for each line on standard input asks once more of all: `served N`.
//!
//! What is lost is sent again after a while, so that a relay that drops does not stop the load.

use penstock_bench::argument;
use penstock_system::datagrams::{BATCH, Batch, Outgoing, send};
use std::io::{BufRead, Error, ErrorKind, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A datagram that is not back for so long is lost.
const LOST: Duration = Duration::from_millis(200);
const PLACE: &str = "an address";

fn main() -> Result<()> {
    let what: String = argument(1, "echo, load, churn or hold")?;
    let address: SocketAddr = argument(2, PLACE)?;
    match what.as_str() {
        "echo" => echo(address),
        "load" => {
            let (clients, depth) = (argument(3, "the number of clients")?, argument(4, "the datagrams of each")?);
            load(address, clients, depth, argument(5, "bytes")?, Duration::from_secs(argument(6, "seconds")?))
        }
        "churn" => churn(address, Duration::from_secs(argument(3, "seconds")?)),
        "hold" => hold(address, argument(3, "the number of clients")?),
        other => Err(Error::new(ErrorKind::InvalidInput, format!("{other} is not echo, load, churn or hold"))),
    }
}

fn echo(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen)?;
    let mut batch = Batch::default();
    loop {
        let count = match batch.receive(socket.as_fd(), 0, BATCH) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Nothing is there: wait for the first without taking it.
                socket.peek_from(&mut [0])?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let back: Vec<Outgoing<'_>> = (0..count)
            .filter_map(|at| batch.get(at))
            .map(|(came, bytes)| Outgoing { to: came.peer, from: None, bytes, segment: None })
            .collect();
        let mut rest = &back[..];
        while !rest.is_empty() {
            // One that cannot be sent is lost, as it would be on the way.
            let sent = send(socket.as_fd(), rest).unwrap_or(1).max(1);
            rest = rest.get(sent..).unwrap_or_default();
        }
    }
}

/// A client with datagrams on their way.
struct Client {
    socket: UdpSocket,
    away: usize,
    heard: Instant,
}

fn load(to: SocketAddr, clients: usize, depth: usize, size: usize, lasts: Duration) -> Result<()> {
    let said = vec![b'x'; size];
    let client = |_| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(to)?;
        Ok(Client { socket, away: 0, heard: Instant::now() })
    };
    let mut all = (0..clients).map(client).collect::<Result<Vec<Client>>>()?;
    let (began, mut batch, mut carried) = (Instant::now(), Batch::default(), 0_u64);
    while began.elapsed() < lasts {
        let mut quiet = true;
        for client in &mut all {
            if client.away > 0 {
                match batch.receive(client.socket.as_fd(), 0, BATCH) {
                    Ok(count) => {
                        quiet = false;
                        carried += count as u64;
                        client.away = client.away.saturating_sub(count);
                        client.heard = Instant::now();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if client.heard.elapsed() > LOST {
                            (client.away, client.heard) = (0, Instant::now());
                        }
                    }
                    // The relay has not begun, or ended a session.
                    Err(_) => client.away = 0,
                }
            }
            let missing = depth.saturating_sub(client.away).min(BATCH);
            if missing > 0 {
                let one = Outgoing { to: None, from: None, bytes: &said, segment: None };
                client.away += send(client.socket.as_fd(), &vec![one; missing]).unwrap_or_default();
            }
        }
        if quiet {
            // The core is shared with the echo.
            std::thread::yield_now();
        }
    }
    say(&format!("carried {carried}"))
}

fn churn(to: SocketAddr, lasts: Duration) -> Result<()> {
    let (began, mut carried) = (Instant::now(), 0_u64);
    while began.elapsed() < lasts {
        // Some at once, so that the relay is not waited for each time.
        let asked = (0..BATCH).map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(LOST))?;
            socket.connect(to)?;
            socket.send(b"question")?;
            Ok(socket)
        });
        for socket in asked.collect::<Result<Vec<UdpSocket>>>()? {
            carried += u64::from(socket.recv(&mut [0; 64]).is_ok());
        }
    }
    say(&format!("carried {carried}"))
}

fn hold(to: SocketAddr, clients: usize) -> Result<()> {
    let client = |_| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOST))?;
        socket.connect(to)?;
        Ok(socket)
    };
    let all = (0..clients).map(client).collect::<Result<Vec<UdpSocket>>>()?;
    let asked = || all.iter().filter(|socket| answers(socket)).count();
    say(&format!("open {}", asked()))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        say(&format!("served {}", asked()))?;
    }
    Ok(())
}

/// Whether something comes back: one that is lost is sent again.
fn answers(socket: &UdpSocket) -> bool {
    (0..5).any(|_| socket.send(b"question").is_ok() && socket.recv(&mut [0; 64]).is_ok())
}

fn say(line: &str) -> Result<()> {
    let mut to = std::io::stdout().lock();
    writeln!(to, "{line}")?;
    to.flush()
}
