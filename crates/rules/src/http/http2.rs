//! Heads of HTTP/2 (RFC 9113 §8): the same checks and the same form as those of HTTP/1, from fields instead of bytes.

use super::framing::{self, Length};
use super::host;
use super::request::{LONGEST_NAME, RequestHead};
use super::{HeadLimits, Known, Options, ResponseHead, Target, Version, websocket};
use crate::error::Kind;

/// By which a WebSocket's two ends agree on it in HTTP/1.1, and which has no meaning in HTTP/2 (RFC 8441 §5).
const KEY: &str = "sec-websocket-key";
const ACCEPT: &str = "sec-websocket-accept";

/// What the pseudo-fields of a request say (RFC 9113 §8.3.1).
#[derive(Clone, Copy, Debug)]
pub struct Pseudo<'a> {
    /// `:method`
    pub method: &'a str,
    /// `:scheme`, where it is known.
    pub scheme: Option<&'a str>,
    /// `:authority`
    pub authority: Option<&'a str>,
    /// `:path`; empty if there is none.
    pub path: &'a str,
    /// `:protocol`, of a `CONNECT` that asks for another protocol on its stream (RFC 8441 §4).
    pub protocol: Option<&'a str>,
    /// A forward proxy is asked: `:authority` says where it is to go.
    pub elsewhere: bool,
}

/// Whether a request with this fault is malformed (RFC 9113 §8.1.1): its stream ends with a reset and no answer.
pub fn is_malformed(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::BadHead
            | Kind::BadHost
            | Kind::BadConnection
            | Kind::BadContentLength
            | Kind::BadTransferEncoding
            | Kind::BadFrame
    )
}

impl RequestHead {
    /// Fill this head from the fields of an HTTP/2 request. The caller vouches for names that are lower-case tokens and for values
    /// free of control characters. `ends`: there is no body behind it.
    ///
    /// One that asks for a WebSocket on its stream (RFC 8441) becomes the `GET` with `Upgrade` that the same request is in HTTP/1.1; the key
    /// that belongs to it is still to be given ([`Self::set_websocket_key`]).
    ///
    /// # Errors
    /// The [`Kind`] that names what is wrong with it; the head is then not to be used, but for a record of what was asked.
    pub fn assemble<'f>(
        &mut self,
        pseudo: &Pseudo<'_>,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        ends: bool,
        limits: &HeadLimits,
    ) -> Result<(), Kind> {
        let (kept, last_host) = (std::mem::take(&mut self.fields), self.last_host);
        *self = RequestHead::default();
        (self.fields, self.last_host, self.version) = (kept, last_host, Version::Http2);
        self.clear();
        let method = match pseudo.protocol {
            None => pseudo.method,
            Some(_) if pseudo.method != "CONNECT" => return Err(Kind::BadHead),
            Some("websocket") => "GET",
            Some(_) => return Err(Kind::UnknownProtocol),
        };
        self.method = self.fields.store(method.as_bytes());
        self.raw_target = self.fields.store(pseudo.path.as_bytes());
        self.raw_length = pseudo.method.len() + pseudo.path.len();
        if pseudo.path.len() > limits.uri {
            return Err(Kind::UriTooLong);
        }
        if !matches!(pseudo.scheme, None | Some("http" | "https")) {
            return Err(Kind::BadHead);
        }
        self.take_fields(pseudo, fields, limits)?;
        self.read_host()?;
        // In HTTP/1 this may also be a whole URL.
        if !pseudo.path.starts_with('/') && !matches!((method, pseudo.path), ("OPTIONS", "*") | ("CONNECT", _)) {
            return Err(Kind::BadHead);
        }
        if pseudo.elsewhere {
            self.read_place(method, pseudo, limits)?;
        } else {
            self.read_target(method, pseudo.path, limits.elsewhere && method != "CONNECT")?;
        }
        let switches = pseudo.protocol.is_some() || self.target == Target::Tunnel;
        self.length = match framing::of_request(self.version, &self.fields)? {
            // What follows is no content (RFC 9110 §9.3.6).
            Length::Bytes(_) if switches => return Err(Kind::BadContentLength),
            _ if switches => Length::None,
            Length::Bytes(1..) if ends => return Err(Kind::BadContentLength),
            Length::None if !ends => Length::Chunked,
            // HTTP/1 says so aloud where a body could be (RFC 9110 §8.6).
            Length::None if matches!(method, "POST" | "PUT" | "PATCH") => Length::Bytes(0),
            length => length,
        };
        self.options = Options::of_request(self.version, &self.fields)?;
        self.options.upgrade = pseudo.protocol.is_some();
        Ok(())
    }

    /// The target as it is in HTTP/1.1: `host:port` of a `CONNECT` (RFC 9113 §8.5), the whole URL of anything else.
    fn read_place(&mut self, method: &str, pseudo: &Pseudo<'_>, limits: &HeadLimits) -> Result<(), Kind> {
        let (Some(authority), path) = (pseudo.authority, pseudo.path) else { return Err(Kind::BadHost) };
        let target = match pseudo.scheme {
            _ if method == "CONNECT" => authority.to_owned(),
            // The server itself is asked (RFC 9112 §3.2.4).
            Some(scheme) if path == "*" => format!("{scheme}://{authority}"),
            Some(scheme) => format!("{scheme}://{authority}{path}"),
            None => return Err(Kind::BadHead),
        };
        if target.len() > limits.uri {
            return Err(Kind::UriTooLong);
        }
        self.raw_target = self.fields.store(target.as_bytes());
        self.read_target(method, &target, true)
    }

    /// Whether its stream is to become that of another protocol, which in HTTP/2 any 2xx says (RFC 8441 §5).
    pub fn is_extended_connect(&self) -> bool {
        self.version == Version::Http2 && self.options.upgrade
    }

    /// Give it the key that HTTP/1.1 wants with a WebSocket.
    pub fn set_websocket_key(&mut self, nonce: [u8; 16]) {
        self.fields.push(KEY, websocket::key(nonce));
    }

    /// What answers this upgrade in HTTP/1.1 (`Sec-WebSocket-Accept`), if HTTP/2 has a form for it (RFC 8441 §5).
    ///
    /// # Errors
    /// `UnknownProtocol` if it is not a `GET` without a body that asks for a WebSocket; `BadHead` if there is not one key, which
    /// the endpoint will not see.
    pub fn websocket_accept(&self) -> Result<String, Kind> {
        let websocket = self.fields.known(Known::Upgrade).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
        if !websocket || self.method() != "GET" || !matches!(self.length, Length::None | Length::Bytes(0)) {
            return Err(Kind::UnknownProtocol);
        }
        let mut keys = self.fields.all(KEY);
        match (keys.next(), keys.next()) {
            (Some(key), None) if websocket::is_key(key) => Ok(websocket::accept(key)),
            _ => Err(Kind::BadHead),
        }
    }

    fn take_fields<'f>(
        &mut self,
        &Pseudo { authority, protocol, .. }: &Pseudo<'_>,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        limits: &HeadLimits,
    ) -> Result<(), Kind> {
        if let Some(protocol) = protocol {
            self.raw_length += protocol.len();
            self.fields.push("upgrade", protocol);
        }
        if let Some(authority) = authority {
            self.raw_length += authority.len();
            self.fields.push("host", authority);
        }
        let (mut count, mut crumbs, mut tes) = (0, Vec::new(), 0);
        for (name, value) in fields {
            // Each counts before it is joined to others (safety.md 92).
            count += 1;
            self.raw_length += name.len() + value.len() + 32;
            if count > limits.fields {
                return Err(Kind::TooManyFields);
            }
            if name.len() > LONGEST_NAME || self.raw_length > limits.bytes {
                return Err(Kind::HeadTooLarge);
            }
            if is_padded(value) {
                return Err(Kind::BadHead);
            }
            if name.contains(&b'_') {
                // As in HTTP/1 (safety.md 13, 134).
                if framing::is_disguised(name) {
                    return Err(Kind::BadHead);
                }
                self.dropped += 1;
                continue;
            }
            match Known::of(name) {
                Known::Host if authority.is_some_and(|authority| !is_same(value, authority.as_bytes())) => {
                    return Err(Kind::BadHost);
                }
                Known::Host if authority.is_some() => continue,
                // It has no meaning here (RFC 8441 §5), and the endpoint gets one of ours.
                Known::Other if protocol.is_some() && name == KEY.as_bytes() => continue,
                Known::Te if tes > 0 || value != b"trailers" => return Err(Kind::BadConnection),
                Known::Te => tes += 1,
                known if speaks_of_connection(known) => return Err(Kind::BadConnection),
                Known::Cookie => {
                    // RFC 9113 §8.2.3: one field again, where the next hop knows no crumbs.
                    if !crumbs.is_empty() {
                        crumbs.extend_from_slice(b"; ");
                    }
                    crumbs.extend_from_slice(value);
                    continue;
                }
                _ => {}
            }
            self.fields.push(name, value);
        }
        if !crumbs.is_empty() {
            self.fields.push("cookie", crumbs);
        }
        Ok(())
    }
}

impl ResponseHead {
    /// Fill this head from the fields of an HTTP/2 response, as [`RequestHead::assemble`] does. `ends`: there is no body behind it;
    /// `to_head`: it answers a HEAD request.
    ///
    /// # Errors
    /// `BadResponse` or `ResponseTooLarge`; the head is then not to be used.
    pub fn assemble<'f>(
        &mut self,
        status: u16,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        (ends, to_head): (bool, bool),
        limits: &HeadLimits,
    ) -> Result<(), Kind> {
        self.compose(status);
        self.version = Version::Http2;
        let (mut count, mut size) = (0, 0);
        for (name, value) in fields {
            count += 1;
            size += name.len() + value.len() + 32;
            if count > limits.fields || size > limits.bytes {
                return Err(Kind::ResponseTooLarge);
            }
            let known = Known::of(name);
            if is_padded(value) || speaks_of_connection(known) {
                return Err(Kind::BadResponse);
            }
            self.fields.push(name, value);
        }
        // RFC 9113 §8.6: there is nothing to switch to.
        if status == 101 || (status < 200 && ends) {
            return Err(Kind::BadResponse);
        }
        let (length, declared) = framing::of_response(self.version, status, to_head, &self.fields)?;
        self.declared = declared;
        self.length = match length {
            Length::Bytes(1..) if ends => return Err(Kind::BadResponse),
            _ if ends => Length::None,
            // Ends with its stream, which tells an end from a break.
            Length::UntilClose => Length::Chunked,
            length => length,
        };
        self.options = Options::of_response(self.version, &self.fields);
        Ok(())
    }

    /// Make the answer that opened a WebSocket on its stream the `101` that it is in HTTP/1.1. `accept`: what answers the client's key.
    pub fn become_switch(&mut self, accept: &str) {
        self.set_status(101);
        // What a length may say here is nothing (RFC 9110 §9.3.6).
        self.fields.remove("content-length");
        self.fields.set(ACCEPT, accept);
        self.fields.push("upgrade", "websocket");
        (self.length, self.declared, self.options.upgrade) = (Length::None, None, true);
    }
}

/// RFC 9113 §8.2.1: nobody trims a value, and the next reader would.
fn is_padded(value: &[u8]) -> bool {
    super::request::trim(value).len() != value.len()
}

/// RFC 9113 §8.2.2: there is no connection to speak of.
fn speaks_of_connection(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
    )
}

/// Whether two texts name one host and port (safety.md 102).
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let canonical = |value| {
        let mut name = [0; host::LONGEST];
        host::canonical(value, &mut name).map(|(length, port)| (name, length, port))
    };
    canonical(one).is_ok_and(|one| canonical(other) == Ok(one))
}

#[cfg(test)]
mod tests;
