//! Texts with values of the request in them: compiled with the plan, rendered in an answer.
//!
//! The law of this file: a value never ends what it stands in. In a field no byte can end the line, in a URL none can leave its
//! component, in a page none begins markup (safety.md 61). What is rendered has a limit.

use crate::error::Kind;
use crate::route::View;
use crate::route::value::{Number, Text, Value};
use penstock_plan::{Operand, Piece};
use std::borrow::Cow;

/// Bytes that a field's value may have when it is rendered.
pub const LONGEST_FIELD: usize = 16 << 10;
/// Bytes that a body may have when it is rendered: as long as the plan's text may be, and as much again of values.
pub const LONGEST_BODY: usize = 2 << 20;

/// A compiled [`penstock_plan::Template`].
#[derive(Debug)]
pub struct Template {
    pieces: Box<[Part]>,
    place: Place,
}

/// Where what is rendered will stand, which says how values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The target of a redirect.
    Location,
    /// The value of any other field.
    Field,
    /// A body of plain text.
    Plain,
    /// A body of HTML or XML: its text, or an attribute in quotes.
    Markup,
    /// A text within a body of JSON.
    Json,
    /// A body of another type: no value can be put there safely.
    Unknown,
}

#[derive(Debug)]
enum Part {
    Literal(Box<str>),
    Text(Text, Nature),
    Number(Number),
    Query { mark: bool },
    RequestId,
}

/// What a value is, where it stands in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// Written as URLs are already.
    Url,
    /// Without it a URL has no host.
    Host,
    Any,
}

impl Place {
    /// Of a body of this media type, parameters behind it or not.
    pub fn of_type(content_type: &str) -> Place {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "text/plain" => Place::Plain,
            "text/html" | "text/xml" | "application/xml" => Place::Markup,
            "application/json" => Place::Json,
            media if media.ends_with("+xml") => Place::Markup,
            media if media.ends_with("+json") => Place::Json,
            _ => Place::Unknown,
        }
    }

    fn most(self) -> usize {
        match self {
            Place::Location | Place::Field => LONGEST_FIELD,
            Place::Plain | Place::Markup | Place::Json | Place::Unknown => LONGEST_BODY,
        }
    }
}

impl Template {
    /// Compile `template` for its place.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn build(template: &penstock_plan::Template, place: Place) -> Result<Template, String> {
        let pieces = template.0.iter().map(|piece| Part::build(piece, place)).collect::<Result<Box<[_]>, _>>()?;
        if place == Place::Unknown && !pieces.iter().all(|piece| matches!(piece, Part::Literal(_))) {
            return Err("values can stand in bodies of plain text, HTML, XML or JSON alone".to_owned());
        }
        Ok(Template { pieces, place })
    }

    /// The text of a template without values.
    pub fn literal(&self) -> Option<String> {
        let texts = self.pieces.iter().map(|piece| match piece {
            Part::Literal(text) => Some(&**text),
            _ => None,
        });
        texts.collect()
    }

    /// Append what the template says of a request, whose exchange has `id`.
    ///
    /// # Errors
    /// `TemplateTooLarge`; `BadHost` where a target needs the host of a request that names none.
    pub fn render(&self, view: &View<'_>, id: &[u8], to: &mut Vec<u8>) -> Result<(), Kind> {
        let begin = to.len();
        for piece in &self.pieces {
            self.write(piece, view, id, to)?;
            if to.len() - begin > self.place.most() {
                return Err(Kind::TemplateTooLarge);
            }
        }
        Ok(())
    }

    fn write(&self, piece: &Part, view: &View<'_>, id: &[u8], to: &mut Vec<u8>) -> Result<(), Kind> {
        match piece {
            Part::Literal(text) => to.extend_from_slice(text.as_bytes()),
            Part::Text(text, nature) => {
                let found = text.read(view, |value| self.escape(value, *nature, to));
                if found.is_none() && *nature == Nature::Host && self.place == Place::Location {
                    return Err(Kind::BadHost);
                }
            }
            Part::Number(number) => {
                if let Some(number) = number.read(view) {
                    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                }
            }
            Part::Query { mark } => {
                if let Some(query) = view.head.query() {
                    if *mark {
                        to.push(b'?');
                    }
                    self.escape(query.as_bytes(), Nature::Url, to);
                }
            }
            Part::RequestId => self.escape(id, Nature::Any, to),
        }
        Ok(())
    }

    fn escape(&self, value: &[u8], nature: Nature, to: &mut Vec<u8>) {
        match self.place {
            Place::Location if nature == Nature::Any => percent(value, is_unreserved, to),
            Place::Location => percent(value, is_url, to),
            Place::Field => percent(value, |byte| (b' '..=b'~').contains(&byte), to),
            place => escape_in_body(place, value, to),
        }
    }
}

/// Append `value` as a text in a body of this kind; nothing, where that is not known.
pub(crate) fn escape_in_body(place: Place, value: &[u8], to: &mut Vec<u8>) {
    let value = String::from_utf8_lossy(value);
    match place {
        Place::Plain => plain(&value, to),
        Place::Markup => markup(&value, to),
        Place::Json => json(&value, to),
        Place::Location | Place::Field | Place::Unknown => {}
    }
}

impl Part {
    fn build(piece: &Piece, place: Place) -> Result<Part, String> {
        match piece {
            Piece::Text(text) => {
                let in_field = matches!(place, Place::Location | Place::Field);
                if let Some(control) = text.chars().find(|c| in_field && c.is_control() && *c != '\t') {
                    return Err(format!("a field value may not contain {control:?}"));
                }
                Ok(Part::Literal(text.as_str().into()))
            }
            Piece::Query => Ok(Part::Query { mark: false }),
            Piece::MarkedQuery => Ok(Part::Query { mark: true }),
            Piece::RequestId => Ok(Part::RequestId),
            Piece::Value(operand) => match Value::compile(operand)? {
                Value::Text(text) if text.asks_body() => Err("a template has no values of the body".to_owned()),
                Value::Number(number) if number.asks_body() => Err("a template has no values of the body".to_owned()),
                Value::Number(number) => Ok(Part::Number(number)),
                Value::Text(text) => Ok(Part::Text(text, Nature::of(operand))),
            },
        }
    }
}

impl Nature {
    fn of(operand: &Operand) -> Nature {
        match operand {
            Operand::Lower(of) => Nature::of(of),
            Operand::Host => Nature::Host,
            Operand::Path => Nature::Url,
            _ => Nature::Any,
        }
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What stands in URLs as they are written: also the `%` of what is escaped already, and brackets, which many send bare.
fn is_url(byte: u8) -> bool {
    is_unreserved(byte) || b":/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn percent(value: &[u8], stays: impl Fn(u8) -> bool, to: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        match stays(byte) {
            true => to.push(byte),
            false => to.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// Control characters could move a terminal's cursor.
fn plain(value: &str, to: &mut Vec<u8>) {
    let visible: Cow<'_, str> = match value.contains(char::is_control) {
        true => value.replace(char::is_control, "\u{fffd}").into(),
        false => value.into(),
    };
    to.extend_from_slice(visible.as_bytes());
}

fn markup(value: &str, to: &mut Vec<u8>) {
    for character in value.chars() {
        match character {
            '&' => to.extend_from_slice(b"&amp;"),
            '<' => to.extend_from_slice(b"&lt;"),
            '>' => to.extend_from_slice(b"&gt;"),
            '"' => to.extend_from_slice(b"&quot;"),
            '\'' => to.extend_from_slice(b"&#39;"),
            // Not even escaped in XML 1.0.
            control if control.is_control() => to.extend_from_slice("\u{fffd}".as_bytes()),
            other => to.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Also what would end a script in a page that the JSON is put into.
fn json(value: &str, to: &mut Vec<u8>) {
    for character in value.chars() {
        match character {
            '"' | '\\' | '<' | '>' | '&' | '\'' | '\u{2028}' | '\u{2029}' => {
                to.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            control if control.is_control() => {
                to.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => to.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
