//! The limit that no proxy of this make can pass: one upstream connection for each client connection, bytes relayed both
//! ways, nothing parsed. `null_relay LISTEN ORIGIN`, one thread.

use penstock_bench::argument;
use std::io::Result;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};

/// As much as the proxies read at once.
const BUFFER: usize = 16 * 1024;

fn main() -> Result<()> {
    let listen: SocketAddr = argument(1, "the address to listen on")?;
    let origin: SocketAddr = argument(2, "the address of the origin")?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(listen, origin))
}

async fn serve(listen: SocketAddr, origin: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        // A connection that breaks concerns nobody else: the client that measures counts its own errors.
        tokio::spawn(async move { relay(client, origin).await.unwrap_or_default() });
    }
}

async fn relay(mut client: TcpStream, origin: SocketAddr) -> Result<()> {
    let mut upstream = TcpStream::connect(origin).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await?;
    Ok(())
}
