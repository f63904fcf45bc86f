//! The runtime: sockets, workers, exchanges. What is decided here without I/O belongs in `penstock-rules`.
//!
//! [`engine`] starts threads and swaps snapshots, `listen` accepts, `connection` keeps a client's connection, `exchange` tells
//! the story of one request, `relay` moves bytes, and `respond` alone turns a failure into an answer.
#![forbid(unsafe_code)]

mod addon;
mod admit;
mod announced;
mod buffers;
mod capture;
mod checked;
mod clear;
mod clock;
mod codec;
mod connection;
mod contain;
mod control;
mod descriptors;
mod engine;
mod exchange;
mod faults;
mod filter;
mod forward;
mod guard;
mod listen;
mod lists;
mod maintenance;
mod observe;
mod pipes;
mod relay;
mod respond;
mod secret;
mod session;
mod snapshot;
mod stats;
mod stream;
mod streams;
mod tls;
mod upstream;
mod users;
mod wire;
mod worker;

pub use addon::{Call, Calls};
pub use capture::CaptureQuery;
pub use checked::CheckedPlan;
pub use engine::{Applied, Engine};
pub use lists::read_list;
pub use penstock_system::memory::Patient;
