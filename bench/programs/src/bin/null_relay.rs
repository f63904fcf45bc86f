//! The limit that no proxy of this make can pass: one upstream connection for each client connection, bytes relayed both
//! ways, nothing parsed. `null_relay LISTEN ORIGIN`, one thread.
//!
//! With a third argument, `host:port`, it is the client's side of a tunnel: `ORIGIN` is a proxy, which is asked for one to there first.

use penstock_bench::argument;
use std::env;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As much as the proxies read at once.
const BUFFER: usize = 16 * 1024;

fn main() -> Result<()> {
    let listen: SocketAddr = argument(1, "the address to listen on")?;
    let origin: SocketAddr = argument(2, "the address of the origin")?;
    // Lives as long as the program.
    let tunnel: Option<&'static str> = env::args().nth(3).map(|place| &*place.leak());
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(listen, origin, tunnel))
}

async fn serve(listen: SocketAddr, origin: SocketAddr, tunnel: Option<&'static str>) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        // A connection that breaks concerns nobody else: the client that measures counts its own errors.
        tokio::spawn(async move { relay(client, origin, tunnel).await.unwrap_or_default() });
    }
}

async fn relay(mut client: TcpStream, origin: SocketAddr, tunnel: Option<&str>) -> Result<()> {
    let mut upstream = TcpStream::connect(origin).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    if let Some(place) = tunnel {
        connect(&mut upstream, place).await?;
    }
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await?;
    Ok(())
}

/// Ask a proxy for a tunnel.
async fn connect(proxy: &mut TcpStream, place: &str) -> Result<()> {
    proxy.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(proxy.read_u8().await?);
    }
    if answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.0 200 ") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConnectionRefused, "the proxy opens no tunnel"))
}
