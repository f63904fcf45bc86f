//! The head of a request as its block tells it (RFC 9113 §8.2, §8.3).

use crate::error::Kind;
use crate::http::{Fields, Pseudo};
use std::str;

/// Memory of a head that is longer than this is not kept.
const LONG: usize = 4 * 1024;

/// Characters of a field's name: a token without upper case (RFC 9113 §8.2.1).
const NAME: [bool; 256] = {
    let mut table = TOKEN;
    let mut letter = b'A';
    while letter <= b'Z' {
        table[letter as usize] = false;
        letter += 1;
    }
    table
};
/// Characters of a token (RFC 9110 §5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"!#$%&'*+-.^_`|~0123456789";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    let mut letter = 0;
    while letter < 26 {
        table[(b'a' + letter) as usize] = true;
        table[(b'A' + letter) as usize] = true;
        letter += 1;
    }
    table
};

/// Where a text stands.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    at: u32,
    end: u32,
}

/// Places of the pseudo-fields of a request.
const METHOD: usize = 0;
const SCHEME: usize = 1;
const AUTHORITY: usize = 2;
const PATH: usize = 3;
const PROTOCOL: usize = 4;

/// A head, unpacked. It is not said that it is a request, see [`Self::pseudo`].
#[derive(Debug, Default)]
pub struct Head {
    text: Vec<u8>,
    pseudo: [Option<Span>; 5],
    fields: Vec<(Span, Span)>,
    /// As RFC 9113 §6.5.2 counts it.
    size: usize,
    fault: Option<Kind>,
    /// The length that its body is said to have.
    length: Option<u64>,
    pub(super) ends: bool,
}

impl Head {
    /// Whether its stream ends with it.
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// The length that its body is said to have.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) fn clear(&mut self) {
        if self.text.capacity() > LONG || self.fields.capacity() > LONG / 16 {
            *self = Head::default();
        }
        self.text.clear();
        self.fields.clear();
        (self.pseudo, self.size, self.fault, self.length, self.ends) = ([None; 5], 0, None, None, false);
    }

    /// One more field. `most`: bytes that all of them may have; beyond it none is kept.
    ///
    /// False if the field has no name, which nobody sends by mistake (safety.md 94).
    #[inline]
    pub(super) fn add(&mut self, name: &[u8], value: &[u8], most: usize) -> bool {
        self.size = self.size.saturating_add(name.len() + value.len() + 32);
        if self.size > most {
            self.fault = self.fault.or(Some(Kind::HeadTooLarge));
            return !name.is_empty();
        }
        match name.first() {
            None => return false,
            Some(b':') => self.add_pseudo(name, value),
            Some(_) => self.add_field(name, value),
        }
        true
    }

    fn add_field(&mut self, name: &[u8], value: &[u8]) {
        if !name.iter().all(|&byte| NAME[usize::from(byte)]) || !is_value(value) {
            return self.refuse();
        }
        if name == b"content-length" {
            self.length = length(value);
        }
        let spans = (self.keep(name), self.keep(value));
        self.fields.push(spans);
    }

    /// They come before all others, and once (RFC 9113 §8.3).
    fn add_pseudo(&mut self, name: &[u8], value: &[u8]) {
        let place = match name {
            b":method" => METHOD,
            b":scheme" => SCHEME,
            b":authority" => AUTHORITY,
            b":path" => PATH,
            b":protocol" => PROTOCOL,
            _ => return self.refuse(),
        };
        if !self.fields.is_empty() || !is_value(value) {
            return self.refuse();
        }
        let span = self.keep(value);
        match self.pseudo.get_mut(place) {
            Some(slot @ None) => *slot = Some(span),
            _ => self.refuse(),
        }
    }

    fn refuse(&mut self) {
        // That it is too large is said to the client, unless it is wrong, too.
        self.fault = Some(Kind::BadHead);
    }

    fn keep(&mut self, text: &[u8]) -> Span {
        let at = self.text.len() as u32;
        self.text.extend_from_slice(text);
        Span { at, end: self.text.len() as u32 }
    }

    fn text(&self, span: Span) -> &[u8] {
        self.text.get(span.at as usize..span.end as usize).unwrap_or_default()
    }

    fn said(&self, place: usize) -> Result<Option<&str>, Kind> {
        let span = self.pseudo.get(place).copied().flatten();
        span.map(|span| str::from_utf8(self.text(span)).map_err(|_| Kind::BadHead)).transpose()
    }

    /// Whether its answer has no body, whatever is wrong with it.
    pub fn asks_for_head(&self) -> bool {
        self.pseudo.get(METHOD).copied().flatten().is_some_and(|method| self.text(method) == b"HEAD")
    }

    /// What it asks for. `elsewhere`: a forward proxy is asked.
    ///
    /// # Errors
    /// `BadHead` if it is no request (RFC 9113 §8.1.1), `HeadTooLarge`.
    pub fn pseudo(&self, elsewhere: bool) -> Result<Pseudo<'_>, Kind> {
        self.fault.map_or(Ok(()), Err)?;
        let (method, scheme) = (self.said(METHOD)?.unwrap_or_default(), self.said(SCHEME)?);
        let (authority, path, protocol) = (self.said(AUTHORITY)?, self.said(PATH)?, self.said(PROTOCOL)?);
        if method.is_empty() || !method.bytes().all(|byte| TOKEN[usize::from(byte)]) {
            return Err(Kind::BadHead);
        }
        // RFC 9113 §8.5, RFC 8441 §4.
        let plain_connect = method == "CONNECT" && protocol.is_none();
        if (scheme.is_none() || path.is_none()) != plain_connect
            || (plain_connect && (scheme.is_some() || path.is_some()))
        {
            return Err(Kind::BadHead);
        }
        let path = path.unwrap_or_default();
        if path.bytes().any(|byte| byte <= b' ') || authority.is_some_and(str::is_empty) {
            return Err(Kind::BadHead);
        }
        Ok(Pseudo { method, scheme, authority, path, protocol, elsewhere })
    }

    /// All other fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|&(name, value)| (self.text(name), self.text(value)))
    }

    /// Its fields as those behind a body; `None` if they cannot be (RFC 9113 §8.1).
    pub(super) fn as_trailers(&self) -> Option<Fields> {
        if self.fault.is_some() || self.pseudo.iter().any(Option::is_some) {
            return None;
        }
        let mut trailers = Fields::default();
        for (name, value) in self.fields() {
            trailers.push(name, value);
        }
        Some(trailers)
    }
}

/// RFC 9113 §8.2.1, and no control character at all, as in HTTP/1.
#[inline]
fn is_value(value: &[u8]) -> bool {
    !value.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

/// A length as it is judged with its head; what is none has no part in the count.
fn length(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}
