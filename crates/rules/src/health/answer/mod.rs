//! What a probe asks, and how its answer is judged: bytes in, outcome out. Nothing that an endpoint sends can fail here in
//! another way than by an [`Outcome`], and never is more of it kept than [`MOST`].

mod grpc;
mod http;
mod server;
mod tcp;
mod udp;

pub use grpc::{GrpcQuestion, PATH as GRPC_PATH};
pub use http::{HttpAnswer, HttpQuestion};
pub use tcp::{TcpAnswer, TcpQuestion};
pub use udp::UdpQuestion;

use penstock_plan::Probe;

/// Bytes of a body, a reply or a message that a probe reads.
pub const MOST: usize = 64 * 1024;

/// A question, ready to be asked.
#[derive(Debug)]
pub enum Question {
    /// An HTTP/1.1 request.
    Http(HttpQuestion),
    /// A connection, and perhaps a word over it.
    Tcp(TcpQuestion),
    /// A datagram.
    Udp(UdpQuestion),
    /// `grpc.health.v1.Health/Check`.
    Grpc(GrpcQuestion),
}

impl Question {
    /// The question of a plan.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence, with the key of the plan below `probe`.
    pub fn build(probe: &Probe) -> Result<Question, (&'static str, String)> {
        match probe {
            Probe::Http(plan) => HttpQuestion::build(plan).map(Question::Http),
            Probe::Tcp(plan) => Ok(Question::Tcp(TcpQuestion::new(plan))),
            Probe::Redis => Ok(Question::Tcp(TcpQuestion::redis())),
            Probe::Postgres(plan) => Ok(Question::Tcp(TcpQuestion::postgres(&plan.user))),
            Probe::Mysql => Ok(Question::Tcp(TcpQuestion::mysql())),
            Probe::Udp(plan) => Ok(Question::Udp(UdpQuestion::new(plan))),
            Probe::Grpc(plan) => Ok(Question::Grpc(GrpcQuestion::new(plan))),
        }
    }
}
