//! Opens many keep-alive connections, sends one request on each and leaves them idle: `idle_client ADDRESS COUNT PATH`.
//!
//! Prints `open N` when all have been answered. Each line on standard input asks for one more request on every connection
//! (`served N` counts those that were answered); the end of standard input closes them all.

use penstock_bench::argument;
use penstock_bench::http::{Body, read_head, status};
use std::io::{BufRead, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A peer that does not answer for this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let address: SocketAddr = argument(1, "the address of the proxy")?;
    let count: usize = argument(2, "the number of connections")?;
    let path: String = argument(3, "the path to ask for")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_nodelay(true)?;
        exchange(&mut connection, request.as_bytes())?;
        connections.push(connection);
    }
    say(&format!("open {}", connections.len()))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let served = connections.iter_mut().filter_map(|one| exchange(one, request.as_bytes()).ok()).count();
        say(&format!("served {served}"))?;
    }
    Ok(())
}

fn exchange(connection: &mut TcpStream, request: &[u8]) -> Result<()> {
    connection.write_all(request)?;
    let mut buffer = [0_u8; 4096];
    let mut filled = 0;
    loop {
        let got = connection.read(&mut buffer[filled..])?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        filled += got;
        let Some(head) = read_head(&buffer[..filled]) else { continue };
        let Body::Length(length) = head.body else {
            return Err(Error::new(ErrorKind::InvalidData, "the origin's length was not kept"));
        };
        if filled < head.length + length as usize {
            continue;
        }
        return match status(&buffer) {
            200 => Ok(()),
            other => Err(Error::new(ErrorKind::InvalidData, format!("status {other}"))),
        };
    }
}

fn say(line: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
