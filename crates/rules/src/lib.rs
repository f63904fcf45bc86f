//! Decisions, and nothing else: no sockets, no tokio, no clock, no dice, no Python. Everything here takes bytes, events and
//! `now`, and returns what is to be done, so that every decision is tested in memory.
//!
//! Bytes from the network reach [`http`]; none of them may panic here.
#![forbid(unsafe_code)]

pub mod addon;
pub mod affinity;
pub mod answer;
pub mod auth;
pub mod balance;
pub mod capture;
pub mod error;
pub mod fault;
pub mod filter;
pub mod forward;
pub mod grpc;
pub mod health;
pub mod http;
pub mod https;
pub mod limit;
pub mod list;
pub mod maintenance;
pub mod network;
pub mod pace;
pub mod page;
pub mod pressure;
pub mod proxy_protocol;
pub mod retry;
pub mod route;
pub mod session;
pub mod template;
pub mod tls;
pub mod users;
pub mod watchdog;
