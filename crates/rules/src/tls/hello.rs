//! What a client says first in a TLS handshake, read without taking part in it: which host it asks for and which protocol. The bytes
//! go on as they came.
//!
//! Strict where two readers could differ (twice the same extension, a name that is none, lengths that do not fit): whoever routes by a
//! name must read the one that the endpoint reads.

use std::fmt;

/// The most that is read of a connection before it must have said whom it wants.
pub const LONGEST: usize = 16 * 1024;

/// TLS records (RFC 8446 §5.1) and handshake messages (§4).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD: usize = 1 << 14;
/// Extensions (RFC 6066 §3, RFC 7301 §3.1).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a `ClientHello` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The host (SNI), in lower case and without a dot at its end. Where the client encrypts its hello (ECH), that of the outer one.
    pub sni: Option<String>,
    /// The protocol (ALPN) that it prefers, if it offers any and the name of that is a text.
    pub alpn: Option<String>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// More is needed to tell.
    Partial,
    /// No TLS.
    Other,
    /// TLS, and this is asked for.
    Hello(Hello),
}

/// TLS that breaks its own rules, or more of it than is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHello;

impl fmt::Display for BadHello {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("no ClientHello that can be read")
    }
}

impl std::error::Error for BadHello {}

/// Reads a `ClientHello` from the first bytes of a connection, however they come in pieces.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Bytes that were seen.
    seen: usize,
    /// The head of the record that is being read, and what is left of its content.
    head: Vec<u8>,
    left: usize,
    /// Content of the records so far: the beginning of the message.
    message: Vec<u8>,
}

impl HelloReader {
    /// Take in what came next.
    ///
    /// # Errors
    /// [`BadHello`]: it can become no hello any more.
    pub fn take(&mut self, bytes: &[u8]) -> Result<First, BadHello> {
        if self.seen == 0 && bytes.first().is_some_and(|first| *first != HANDSHAKE) {
            return Ok(First::Other);
        }
        // What lies beyond is not looked at, so that the verdict does not depend on how much came at once.
        let mut bytes = bytes.get(..LONGEST.saturating_sub(self.seen)).unwrap_or(bytes);
        self.seen += bytes.len();
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.take_head(bytes)?;
                continue;
            }
            let (content, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.message.extend_from_slice(content);
            self.left -= content.len();
            bytes = rest;
            if let Some(message) = self.whole()? {
                return read(message).map(First::Hello);
            }
        }
        if self.seen >= LONGEST { Err(BadHello) } else { Ok(First::Partial) }
    }

    /// Take in the head of a record, or some of it; what is behind that.
    fn take_head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], BadHello> {
        let (head, rest) = bytes.split_at(bytes.len().min(5 - self.head.len()));
        self.head.extend_from_slice(head);
        let wrong = match self.head[..] {
            [kind] => kind != HANDSHAKE,
            [kind, major, ..] => kind != HANDSHAKE || major != 3,
            [] => false,
        };
        if wrong {
            return Err(BadHello);
        }
        if let [.., high, low] = self.head[..]
            && self.head.len() == 5
        {
            self.left = usize::from(u16::from_be_bytes([high, low]));
            self.head.clear();
            // An empty record says nothing and could go on for ever (RFC 8446 §5.1).
            if self.left == 0 || self.left > RECORD {
                return Err(BadHello);
            }
        }
        Ok(rest)
    }

    /// The body of the hello, once it is all there.
    fn whole(&self) -> Result<Option<&[u8]>, BadHello> {
        match self.message[..] {
            [kind, ..] if kind != CLIENT_HELLO => Err(BadHello),
            [_, high, middle, low, ref body @ ..] => {
                let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if length > LONGEST { Err(BadHello) } else { Ok(body.get(..length)) }
            }
            _ => Ok(None),
        }
    }
}

/// Read the body of a `ClientHello` (RFC 8446 §4.1.2; those before TLS 1.3 look the same).
fn read(body: &[u8]) -> Result<Hello, BadHello> {
    let mut body = Cursor(body);
    body.take(2 + 32)?;
    let session = body.vector(1)?;
    let suites = body.vector(2)?;
    let compressions = body.vector(1)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return Err(BadHello);
    }
    let mut hello = Hello::default();
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Cursor(body.vector(2)?);
    if !body.0.is_empty() {
        return Err(BadHello);
    }
    let mut found = [false; 2];
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        let (at, kind) = match u16::try_from(kind) {
            Ok(SERVER_NAME) => (0, SERVER_NAME),
            Ok(ALPN) => (1, ALPN),
            _ => continue,
        };
        if std::mem::replace(&mut found[at], true) {
            return Err(BadHello);
        }
        match kind {
            SERVER_NAME => hello.sni = server_name(content)?,
            _ => hello.alpn = first_protocol(content)?,
        }
    }
    Ok(hello)
}

/// The host of a list of names, of which there is one of each kind.
fn server_name(content: &[u8]) -> Result<Option<String>, BadHello> {
    let mut content = Cursor(content);
    let mut names = Cursor(content.vector(2)?);
    if !content.0.is_empty() || names.0.is_empty() {
        return Err(BadHello);
    }
    let mut host = None;
    while !names.0.is_empty() {
        let kind = names.number(1)?;
        let name = names.vector(2)?;
        if kind == usize::from(HOST_NAME) && host.replace(host_name(name)?).is_some() {
            return Err(BadHello);
        }
    }
    Ok(host)
}

/// A name of the DNS in lower case; underscores occur, and are let pass as they are.
fn host_name(name: &[u8]) -> Result<String, BadHello> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > 253 || !name.iter().all(fits) {
        return Err(BadHello);
    }
    str::from_utf8(name).map(str::to_ascii_lowercase).map_err(|_| BadHello)
}

/// The first of a list of protocols; all must be well formed.
fn first_protocol(content: &[u8]) -> Result<Option<String>, BadHello> {
    let mut content = Cursor(content);
    let mut names = Cursor(content.vector(2)?);
    let first = names.vector(1)?;
    let mut next = first;
    loop {
        if next.is_empty() {
            return Err(BadHello);
        }
        if names.0.is_empty() {
            break;
        }
        next = names.vector(1)?;
    }
    if !content.0.is_empty() {
        return Err(BadHello);
    }
    Ok(str::from_utf8(first).ok().map(str::to_owned))
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadHello> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadHello)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, three at most.
    fn number(&mut self, bytes: usize) -> Result<usize, BadHello> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What stands behind its own length of so many bytes.
    fn vector(&mut self, bytes: usize) -> Result<&'a [u8], BadHello> {
        let length = self.number(bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
