//! Values that a test reads of a request.

use super::json::{Found, Pointer};
use super::{View, query};
use crate::http::Known;
use penstock_plan::{Field, Operand};
use std::borrow::Cow;
use std::fmt::{self, Write};

/// A text of the request or of the plan.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    source: Source,
    /// Compared in lower case (ASCII).
    lower: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Literal(Box<str>),
    Host,
    Path,
    Method,
    Scheme,
    Sni,
    Alpn,
    ClientSubject,
    ClientNames,
    ClientFingerprint,
    Listener,
    ClientIp,
    User,
    DestProtocol,
    ResponseType,
    Field(Field),
    Json(Pointer),
}

/// A number of the request or of the plan.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    Literal(i64),
    Port,
    ClientPort,
    DestPort,
    Hour,
    Weekday,
    Json(Pointer),
}

/// An operand, compiled: its type is known before any request comes.
pub(crate) enum Value {
    Text(Text),
    Number(Number),
}

impl Value {
    /// # Errors
    /// What is wrong with the operand.
    pub(crate) fn compile(operand: &Operand) -> Result<Value, &'static str> {
        let (mut operand, mut lower) = (operand, false);
        while let Operand::Lower(of) = operand {
            (operand, lower) = (of, true);
        }
        let source = match operand {
            Operand::Number(_) | Operand::Port | Operand::ClientPort | Operand::JsonNumber(_) if lower => {
                return Err("lower() needs a text");
            }
            Operand::DestPort | Operand::TimeHour | Operand::TimeWeekday if lower => {
                return Err("lower() needs a text");
            }
            Operand::DestPort => return Ok(Value::Number(Number::DestPort)),
            Operand::TimeHour => return Ok(Value::Number(Number::Hour)),
            Operand::TimeWeekday => return Ok(Value::Number(Number::Weekday)),
            Operand::User => Source::User,
            Operand::DestProtocol => Source::DestProtocol,
            Operand::ResponseType => Source::ResponseType,
            Operand::JsonNumber(pointer) => return Ok(Value::Number(Number::Json(Pointer::compile(pointer)?))),
            Operand::Number(number) => return Ok(Value::Number(Number::Literal(*number))),
            Operand::Port => return Ok(Value::Number(Number::Port)),
            Operand::ClientPort => return Ok(Value::Number(Number::ClientPort)),
            Operand::Text(text) if lower => Source::Literal(text.to_ascii_lowercase().into()),
            Operand::Text(text) => Source::Literal(text.as_str().into()),
            Operand::Host => Source::Host,
            Operand::Path => Source::Path,
            Operand::Method => Source::Method,
            Operand::Scheme => Source::Scheme,
            Operand::Sni => Source::Sni,
            Operand::Alpn => Source::Alpn,
            Operand::ClientSubject => Source::ClientSubject,
            Operand::ClientNames => Source::ClientNames,
            Operand::ClientFingerprint => Source::ClientFingerprint,
            Operand::Listener => Source::Listener,
            Operand::ClientIp => Source::ClientIp,
            Operand::Field(Field::Json(pointer)) => Source::Json(Pointer::compile(pointer)?),
            Operand::Field(field) => Source::Field(field.clone()),
            Operand::Lower(_) => return Err("lower() needs a text"),
        };
        // Media types are the same whatever their letters' case (RFC 9110 §8.3.1).
        let lower = match source {
            Source::Literal(_) | Source::Host => false,
            Source::ResponseType => true,
            _ => lower,
        };
        Ok(Value::Text(Text { source, lower }))
    }
}

impl Number {
    /// The number, if the request has it.
    pub(crate) fn read(&self, view: &View<'_>) -> Option<i64> {
        match self {
            Number::Literal(number) => Some(*number),
            Number::Port => view.port.map(i64::from),
            Number::ClientPort => view.client_port.map(i64::from),
            Number::DestPort => view.errand.map(|_| i64::from(view.head.place_port())),
            Number::Hour => view.errand.map(|errand| i64::from(errand.moment.hour)),
            Number::Weekday => view.errand.map(|errand| i64::from(errand.moment.weekday)),
            Number::Json(pointer) => view.body?.read(pointer, |found| match found {
                Found::Number(number) => Some(*number),
                _ => None,
            }),
        }
    }

    pub(crate) fn asks_body(&self) -> bool {
        matches!(self, Number::Json(_))
    }

    /// Whether it stands in the plan.
    pub(super) fn is_literal(&self) -> bool {
        matches!(self, Number::Literal(_))
    }
}

/// Texts up to this length are put into lower case without the heap.
const LOWER_ON_STACK: usize = 256;

impl Text {
    /// What `test` says of the text; `None` if the request does not have it.
    #[inline]
    pub(crate) fn read<R>(&self, view: &View<'_>, test: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if let Source::ClientIp = self.source {
            let mut text = AddressText { bytes: [0; 40], length: 0 };
            // An address is never longer than its room.
            write!(text, "{}", view.client?.to_canonical()).ok()?;
            return Some(test(text.bytes()));
        }
        let text = self.source.read(view)?;
        if !self.lower || !text.iter().any(u8::is_ascii_uppercase) {
            return Some(test(&text));
        }
        let mut stack = [0; LOWER_ON_STACK];
        if let Some(room) = stack.get_mut(..text.len()) {
            room.copy_from_slice(&text);
            room.make_ascii_lowercase();
            return Some(test(room));
        }
        Some(test(&text.to_ascii_lowercase()))
    }

    pub(crate) fn asks_body(&self) -> bool {
        matches!(self.source, Source::Json(_))
    }

    /// The text, if it stands in the plan.
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.source {
            Source::Literal(text) => Some(text),
            _ => None,
        }
    }
}

impl Source {
    #[inline]
    fn read<'v>(&'v self, view: &View<'v>) -> Option<Cow<'v, [u8]>> {
        let text = match self {
            Source::Literal(text) => text,
            // HTTP/1.0 may come without Host: a value that is missing.
            Source::Host if view.head.host().is_empty() => return None,
            Source::Host => view.head.host(),
            Source::Path => view.head.path(),
            Source::Method => view.head.method(),
            Source::Scheme => view.scheme,
            Source::Sni => view.sni?,
            Source::Alpn => view.alpn?,
            Source::ClientSubject => &view.certificate?.subject,
            Source::ClientNames => &view.certificate?.names,
            Source::ClientFingerprint => &view.certificate?.fingerprint,
            Source::Listener => view.listener,
            Source::User => view.errand?.user?,
            Source::DestProtocol if view.errand?.datagrams => "udp",
            Source::DestProtocol => "tcp",
            // Written by `Text::read`.
            Source::ClientIp => return None,
            Source::ResponseType => {
                let media = view.errand?.response?.fields.known(Known::ContentType)?;
                let media = media.split(|byte| *byte == b';').next().unwrap_or_default();
                return Some(Cow::Borrowed(media.trim_ascii()));
            }
            Source::Field(field) => return read_field(field, view),
            Source::Json(pointer) => {
                return view.body?.read(pointer, |found| match found {
                    Found::Text(text) => Some(Cow::Owned(text.as_bytes().to_vec())),
                    _ => None,
                });
            }
        };
        Some(Cow::Borrowed(text.as_bytes()))
    }
}

/// The value of `field`, if the request has it.
fn read_field<'v>(field: &'v Field, view: &View<'v>) -> Option<Cow<'v, [u8]>> {
    match field {
        Field::Header(name) => {
            let mut lines = view.head.fields.all(name);
            let first = lines.next()?;
            let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
            let mut joined = [first, second].join(&b", "[..]);
            for line in lines {
                joined.extend_from_slice(b", ");
                joined.extend_from_slice(line);
            }
            Some(Cow::Owned(joined))
        }
        Field::Query(name) => query::first(view.head.query()?, name),
        Field::Cookie(name) => cookie(view, name).map(Cow::Borrowed),
        // Compiled to a pointer of its own.
        Field::Json(_) => None,
    }
}

/// Whether the request has `field`, with whatever value.
pub(super) fn has_field(field: &Field, view: &View<'_>) -> bool {
    match field {
        Field::Header(name) => view.head.fields.get(name).is_some(),
        Field::Query(name) => {
            view.head.query().is_some_and(|query| query::pieces(query).any(|piece| query::is_named(piece, name)))
        }
        Field::Cookie(name) => cookie(view, name).is_some(),
        Field::Json(_) => false,
    }
}

/// The first cookie of `name` over all `Cookie` fields, as sent (RFC 6265 §4.2.1; quotes belong to the value).
fn cookie<'v>(view: &View<'v>, name: &str) -> Option<&'v [u8]> {
    let fields = &view.head.fields;
    fields.all_known(Known::Cookie).flat_map(|line| line.split(|&byte| byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value)
    })
}

/// An address as text without the heap; IPv4 mapped into IPv6 reads as IPv4.
struct AddressText {
    bytes: [u8; 40],
    length: usize,
}

impl AddressText {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
