//! Who the client is, as endpoints are told.

use super::write::{FieldWriter, RequestLines, put};
use super::{Known, RequestHead};
use crate::tls::Client;

/// Who the client is, as an origin is told: the same for all requests of a connection.
#[derive(Clone, Debug)]
pub struct Identity {
    peer: String,
    scheme: &'static str,
    port: Option<u16>,
    /// The lines for a client that is believed nothing, which is nearly every client.
    pub(super) lines: Vec<u8>,
    /// Those of them that tell of its certificate.
    certificate: Vec<u8>,
}

impl Identity {
    /// `peer`: the address of the connection; `port`: the one it came in on.
    pub fn new(peer: &str, scheme: &'static str, port: Option<u16>) -> Identity {
        let mut lines = Vec::with_capacity(128);
        put(
            &mut lines,
            &[b"x-forwarded-for: ", peer.as_bytes(), b"\r\nx-forwarded-proto: ", scheme.as_bytes(), b"\r\n"],
        );
        if let Some(port) = port {
            put(&mut lines, &[b"x-forwarded-port: ", itoa::Buffer::new().format(port).as_bytes(), b"\r\n"]);
        }
        Identity { peer: peer.to_owned(), scheme, port, lines, certificate: Vec::new() }
    }

    /// The client has proved to be this one.
    #[must_use]
    pub fn with_client(mut self, client: &Client) -> Identity {
        for (name, value) in [
            ("x-client-cert-subject", &client.subject),
            ("x-client-cert-san", &client.names),
            ("x-client-cert-fingerprint", &client.fingerprint),
        ] {
            put(&mut self.certificate, &[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
        self.lines.extend_from_slice(&self.certificate);
        self
    }
}

/// `X-Forwarded-*` and `Via` (RFC 9110 §7.6.3).
pub(super) fn write_identity(head: &RequestHead, lines: &RequestLines<'_>, to: &mut impl FieldWriter) {
    if let Some(outward) = lines.outward {
        // What there is to say of the client is among the fields.
        if outward.via {
            to.field(b"via", &[head.version.number().as_bytes(), b" ", outward.pseudonym.as_bytes()]);
        }
        return;
    }
    let identity = lines.identity;
    let known = |known| lines.trusted && head.fields.known(known).is_some();
    if lines.trusted {
        let mut chain: Vec<&[u8]> = Vec::new();
        for value in head.fields.all_known(Known::XForwardedFor) {
            chain.extend_from_slice(&[value, b", "]);
        }
        chain.push(identity.peer.as_bytes());
        to.field(b"x-forwarded-for", &chain);
        if !known(Known::XForwardedProto) {
            to.field(b"x-forwarded-proto", &[identity.scheme.as_bytes()]);
        }
        if let Some(port) = identity.port.filter(|_| !known(Known::XForwardedPort)) {
            to.field(b"x-forwarded-port", &[itoa::Buffer::new().format(port).as_bytes()]);
        }
        // A proxy that is believed speaks of its client, not of itself.
        let told = [Known::XClientCertSubject, Known::XClientCertSan, Known::XClientCertFingerprint];
        if !told.into_iter().any(known) {
            to.lines(&identity.certificate);
        }
    } else {
        to.lines(&identity.lines);
    }
    if !known(Known::XForwardedHost) && !head.host_bytes().is_empty() {
        match head.port() {
            Some(port) => {
                let mut digits = itoa::Buffer::new();
                to.field(b"x-forwarded-host", &[head.host_bytes(), b":", digits.format(port).as_bytes()]);
            }
            None => to.field(b"x-forwarded-host", &[head.host_bytes()]),
        }
    }
    to.field(b"via", &[head.version.number().as_bytes(), b" penstock"]);
}
