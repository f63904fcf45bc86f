//! Probes over HTTP/2, each on a connection of its own.

use crate::stream::Stream;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::request::Builder as Head;
use http::{HeaderMap, Request};
use penstock_rules::health::{GRPC_PATH, GrpcQuestion, HttpQuestion, MOST, Outcome};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a list of fields.
const FIELDS: u32 = 16 * 1024;

/// An answer.
struct Answer {
    status: u16,
    head: HeaderMap,
    /// As much of it as is read.
    content: Vec<u8>,
    /// `None`: there was more content.
    trailers: Option<HeaderMap>,
}

/// What comes of asking; `None` if the connection broke or what came is no HTTP/2.
type Asked = Option<Result<Answer, Outcome>>;

/// Ask whether `question` is answered well, over `stream`.
pub(super) async fn ask_http(stream: Stream, question: &HttpQuestion, authority: &str) -> Outcome {
    let (method, path) = question.line();
    let mut head = head(&stream, method, question.host(authority), path);
    for (name, value) in question.fields() {
        head = head.header(name, value);
    }
    let early = |status| question.judge_status(status);
    match ask(stream, head, None, early).await {
        Some(Ok(answer)) => question.judge_content(answer.status, &answer.content),
        Some(Err(outcome)) => outcome,
        None => Outcome::BadResponse,
    }
}

/// Ask the health service of gRPC over `stream`.
pub(super) async fn ask_grpc(stream: Stream, question: &GrpcQuestion, authority: &str) -> Outcome {
    let head = head(&stream, "POST", question.host(authority), GRPC_PATH)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "penstock-probe");
    match ask(stream, head, Some(question.request().into()), |_| None).await {
        Some(Ok(Answer { trailers: None, .. })) => Outcome::TooLong,
        Some(Ok(Answer { status, head, content, trailers: Some(trailers) })) => {
            let code = trailers.get("grpc-status").or_else(|| head.get("grpc-status"));
            question.judge(status, &content, code.map(|code| code.as_bytes()))
        }
        Some(Err(outcome)) => outcome,
        None => Outcome::BadResponse,
    }
}

fn head(stream: &Stream, method: &str, host: &str, path: &str) -> Head {
    let scheme = if stream.agreed_on_http2().is_some() { "https" } else { "http" };
    Request::builder().method(method).uri(format!("{scheme}://{host}{path}"))
}

/// Send a request and read its answer; `early` may know the outcome from the status.
async fn ask(stream: Stream, head: Head, content: Option<Bytes>, early: impl Fn(u16) -> Option<Outcome>) -> Asked {
    let request = head.body(()).ok()?;
    let opened = Builder::new().enable_push(false).max_header_list_size(FIELDS).handshake(Octets(stream)).await;
    let (sender, connection) = opened.ok()?;
    let mut connection = pin!(connection);
    let mut call = pin!(call(sender, request, content, early));
    // The call moves only while its connection does.
    poll_fn(|cx| {
        if let Poll::Ready(asked) = call.as_mut().poll(cx) {
            return Poll::Ready(asked);
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(match call.as_mut().poll(cx) {
                Poll::Ready(asked) => asked,
                Poll::Pending => None,
            }),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn call(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    content: Option<Bytes>,
    early: impl Fn(u16) -> Option<Outcome>,
) -> Asked {
    let mut sender = sender.ready().await.ok()?;
    let (answer, mut body) = sender.send_request(request, content.is_none()).ok()?;
    if let Some(content) = content {
        body.send_data(content, true).ok()?;
    }
    let (head, mut body) = answer.await.ok()?.into_parts();
    let status = head.status.as_u16();
    if let Some(outcome) = early(status) {
        return Some(Err(outcome));
    }
    let mut content = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        if content.len() + piece.len() > MOST {
            content.extend_from_slice(piece.get(..MOST - content.len()).unwrap_or_default());
            return Some(Ok(Answer { status, head: head.headers, content, trailers: None }));
        }
        body.flow_control().release_capacity(piece.len()).ok()?;
        content.extend_from_slice(&piece);
    }
    let trailers = Some(body.trailers().await.ok()?.unwrap_or_default());
    Some(Ok(Answer { status, head: head.headers, content, trailers }))
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
