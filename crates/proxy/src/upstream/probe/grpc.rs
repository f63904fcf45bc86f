//! A gRPC probe over HTTP/2, on a connection of its own.

use crate::stream::Stream;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use penstock_rules::health::{GrpcQuestion, MOST, Outcome};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a list of fields.
const FIELDS: u32 = 16 * 1024;

/// Ask over `stream`.
pub(super) async fn ask(stream: Stream, question: &GrpcQuestion, authority: &str) -> Outcome {
    let opened = Builder::new().enable_push(false).max_header_list_size(FIELDS).handshake(Octets(stream)).await;
    let Ok((sender, connection)) = opened else { return Outcome::BadResponse };
    let mut connection = pin!(connection);
    let mut call = pin!(call(sender, question, authority));
    // The call moves only while its connection does.
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = call.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(match call.as_mut().poll(cx) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => None,
            }),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
    .unwrap_or(Outcome::BadResponse)
}

/// One call; `None` if the connection broke or what came is no HTTP/2.
async fn call(sender: SendRequest<Bytes>, question: &GrpcQuestion, authority: &str) -> Option<Outcome> {
    let mut sender = sender.ready().await.ok()?;
    let request = http::Request::post(question.uri(authority))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "penstock-probe")
        .body(())
        .ok()?;
    let (answer, mut body) = sender.send_request(request, false).ok()?;
    body.send_data(question.request().into(), true).ok()?;
    let (head, mut body) = answer.await.ok()?.into_parts();
    let mut content = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        if content.len() + piece.len() > MOST {
            return Some(Outcome::TooLong);
        }
        body.flow_control().release_capacity(piece.len()).ok()?;
        content.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.ok()?.unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    Some(question.judge(head.status.as_u16(), &content, status.map(|status| status.as_bytes())))
}

/// A stream as the HTTP/2 library wants it.
struct Octets(Stream);

impl AsyncRead for Octets {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(self.0.poll_read(cx, to.initialize_unfilled()))?;
        to.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Octets {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
