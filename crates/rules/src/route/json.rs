//! Values of a JSON body, found by JSON Pointer (RFC 6901) without building the document.
//!
//! A body that is no JSON text (RFC 8259), or that names a key on the pointer's way twice, has no values: two readers could see
//! different ones.

use crate::error::Kind;
use crate::http::{Known, Length, RequestHead};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::fmt;

/// The body of a request, as matches may ask for it.
#[derive(Debug, Default)]
pub struct Body<'a> {
    state: State<'a>,
    /// A match asked for a value while the body was not there.
    wanted: Cell<bool>,
    /// Why a match got no answer since this was looked at last.
    vain: Cell<Option<Kind>>,
    /// The strict route that got none.
    refusal: Cell<Option<(usize, Kind)>>,
    /// What was found, by pointer: routes often ask for the same.
    found: RefCell<Vec<(Box<str>, Answer)>>,
}

/// What a body has at a pointer; `Err`: it is no JSON.
type Answer = Result<Option<Found>, ()>;

/// Bytes of a body that are looked into.
pub const MOST: usize = 64 << 10;

/// What is known of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State<'a> {
    /// It was not read.
    #[default]
    Unread,
    /// It is no JSON, by what the request says of it; or there is none.
    None,
    /// It is larger than what is looked into.
    TooLarge,
    /// All of it.
    Whole(&'a [u8]),
}

impl State<'_> {
    /// What the head of a request says of its body.
    pub fn announced(head: &RequestHead) -> State<'static> {
        let media = head.fields.known(Known::ContentType).unwrap_or_default();
        let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let is_json = media == b"application/json" || media.ends_with(b"+json");
        match head.length {
            Length::None | Length::UntilClose | Length::Bytes(0) => State::None,
            _ if !is_json || head.fields.get("content-encoding").is_some() => State::None,
            Length::Bytes(bytes) if bytes > MOST as u64 => State::TooLarge,
            Length::Bytes(_) | Length::Chunked => State::Unread,
        }
    }
}

/// One value of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Null,
    Bool(bool),
    /// A number that is whole and fits.
    Number(i64),
    Text(Box<str>),
    /// A fraction, a number beyond 64 bits, an array, an object: there, and comparable with nothing.
    Other,
}

impl<'a> Body<'a> {
    /// A body of which so much is known.
    pub fn new(state: State<'a>) -> Body<'a> {
        Body { state, ..Body::default() }
    }

    /// Whether a match asked for a value before the body was there.
    pub fn is_wanted(&self) -> bool {
        self.wanted.get()
    }

    /// Why the route of this index refuses the request instead of taking it.
    pub fn refusal(&self, route: usize) -> Option<Kind> {
        self.refusal.get().filter(|(by, _)| *by == route).map(|(_, kind)| kind)
    }

    /// A strict route is about to be asked.
    pub(super) fn forget_vain(&self) {
        self.vain.set(None);
    }

    /// A strict route said no: whether that was for want of a body that can be asked. It refuses the request then.
    pub(super) fn refuse_if_vain(&self, route: usize) -> bool {
        let vain = self.vain.take();
        if let Some(kind) = vain {
            self.refusal.set(Some((route, kind)));
        }
        vain.is_some()
    }

    /// What `read` makes of the value at `pointer`; `None` if there is none, or none that `read` has a use for.
    pub(super) fn read<R>(&self, pointer: &Pointer, read: impl FnOnce(&Found) -> Option<R>) -> Option<R> {
        let bytes = match self.state {
            State::Whole(bytes) => bytes,
            State::Unread => {
                self.wanted.set(true);
                return None;
            }
            State::None => return self.in_vain(Kind::BadJson),
            State::TooLarge => return self.in_vain(Kind::BodyTooLarge),
        };
        let mut known = self.found.borrow_mut();
        let at = match known.iter().position(|(text, _)| *text == pointer.text) {
            Some(at) => at,
            None => {
                known.push((pointer.text.clone(), find(bytes, pointer).map_err(|_| ())));
                known.len() - 1
            }
        };
        match &known.get(at)?.1 {
            Ok(None) => None,
            // Something of another type is as good as no JSON.
            Ok(Some(found)) => read(found).or_else(|| self.in_vain(Kind::BadJson)),
            Err(()) => self.in_vain(Kind::BadJson),
        }
    }

    fn in_vain<R>(&self, kind: Kind) -> Option<R> {
        self.vain.set(Some(kind));
        None
    }
}

/// A JSON Pointer, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pointer {
    text: Box<str>,
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    key: Box<str>,
    /// The same as an index of an array, where it is one.
    index: Option<usize>,
}

/// Pointers longer than this are refused: each step is a level of the stack.
const LONGEST: usize = 32;

impl Pointer {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn compile(text: &str) -> Result<Pointer, &'static str> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err("a JSON Pointer begins with /");
        }
        let steps: Vec<Step> = text.split('/').skip(1).map(Step::of).collect::<Result<_, _>>()?;
        if steps.len() > LONGEST {
            return Err("a JSON Pointer has at most 32 steps");
        }
        Ok(Pointer { text: text.into(), steps: steps.into() })
    }
}

impl Step {
    fn of(text: &str) -> Result<Step, &'static str> {
        if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
            return Err("in a JSON Pointer ~ is written ~0 and / is written ~1");
        }
        let key = text.replace("~1", "/").replace("~0", "~");
        // RFC 6901 §4: no leading zeros.
        let is_index = key == "0" || (!key.starts_with('0') && key.bytes().all(|byte| byte.is_ascii_digit()));
        let index = if is_index { key.parse().ok() } else { None };
        Ok(Step { key: key.into(), index })
    }
}

/// The value at `pointer`; `Err` where the text is no JSON.
fn find(bytes: &[u8], pointer: &Pointer) -> Result<Option<Found>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let found = Seek(&pointer.steps).deserialize(&mut reader)?;
    reader.end()?;
    Ok(found)
}

/// Walks to a value and past everything else.
struct Seek<'s>(&'s [Step]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<Found>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<Found>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(self.here(Found::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.here(Found::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.here(Found::Number(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.here(i64::try_from(value).map_or(Found::Other, Found::Number)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(self.here(Found::Other))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(if self.0.is_empty() { Some(Found::Text(value.into())) } else { None })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.0.split_first() else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Some(Found::Other));
        };
        let mut found = None;
        for at in 0.. {
            if step.index == Some(at) {
                match items.next_element_seed(Seek(rest))? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.0.split_first() else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Some(Found::Other));
        };
        let (mut found, mut seen) = (None, false);
        while let Some(is_it) = members.next_key_seed(IsKey(&step.key))? {
            if !is_it {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if std::mem::replace(&mut seen, true) {
                return Err(A::Error::custom("a key stands twice"));
            }
            found = members.next_value_seed(Seek(rest))?;
        }
        Ok(found)
    }
}

impl Seek<'_> {
    fn here(&self, value: Found) -> Option<Found> {
        self.0.is_empty().then_some(value)
    }
}

/// Whether a key is this one.
struct IsKey<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, pointer: &str) -> Option<Found> {
        find(text.as_bytes(), &Pointer::compile(pointer).unwrap()).ok().flatten()
    }

    fn text(value: &str) -> Option<Found> {
        Some(Found::Text(value.into()))
    }

    #[test]
    fn values_are_found_by_their_pointers() {
        let body = r#" {"plan": "pro", "n": [1, {"a/b": -2, "~": null}], "": true, "e": "\u0070ro", "f": 1.5} "#;
        for (pointer, found) in [
            ("/plan", text("pro")),
            ("/n/0", Some(Found::Number(1))),
            ("/n/1/a~1b", Some(Found::Number(-2))),
            ("/n/1/~0", Some(Found::Null)),
            ("/", Some(Found::Bool(true))),
            ("/e", text("pro")),
            ("/f", Some(Found::Other)),
            ("/n", Some(Found::Other)),
            ("", Some(Found::Other)),
            ("/n/2", None),
            ("/n/00", None),
            ("/n/-", None),
            ("/plan/x", None),
            ("/missing", None),
        ] {
            assert_eq!(at(body, pointer), found, "{pointer}");
        }
        assert_eq!(at("\"whole\"", ""), text("whole"));
    }

    #[test]
    fn what_is_no_json_or_ambiguous_has_no_values() {
        for body in [
            "",
            "{",
            r#"{"plan": "pro"} x"#,
            r#"{"plan": "pro", }"#,
            r#"{"plan": "pro", "x": 01}"#,
            r#"{'plan': 'pro'}"#,
            r#"{"plan": "pro", "plan": "pro"}"#,
            r#"{"plan": "pro", "\u0070lan": "free"}"#,
            "{\"plan\": \"pro\", \"x\": \"a\u{1}\"}",
        ] {
            assert_eq!(at(body, "/plan"), None, "{body}");
        }
        let deep = format!("{{\"plan\": \"pro\", \"x\": {}{}}}", "[".repeat(60_000), "]".repeat(60_000));
        let _ = at(&deep, "/plan");
    }

    #[test]
    fn pointers_are_checked() {
        for wrong in ["plan", "/a~", "/a~2", &"/a".repeat(33)] {
            assert!(Pointer::compile(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_says_what_it_was_asked() {
        let pointer = Pointer::compile("/plan").unwrap();
        let text_of = |found: &Found| if let Found::Text(text) = found { Some(text.clone()) } else { None };
        let unread = Body::default();
        assert_eq!((unread.read(&pointer, text_of), unread.is_wanted(), unread.refuse_if_vain(0)), (None, true, false));
        for (state, vain) in [
            (State::Whole(&br#"{"plan": "pro"}"#[..]), None),
            (State::Whole(br#"{}"#), None),
            (State::Whole(br#"{"plan": 1}"#), Some(Kind::BadJson)),
            (State::Whole(b"{"), Some(Kind::BadJson)),
            (State::None, Some(Kind::BadJson)),
            (State::TooLarge, Some(Kind::BodyTooLarge)),
        ] {
            let body = Body::new(state);
            body.forget_vain();
            body.read(&pointer, text_of);
            assert_eq!(
                (body.refuse_if_vain(7), body.refusal(7), body.refusal(6)),
                (vain.is_some(), vain, None),
                "{state:?}"
            );
            assert!(!body.is_wanted());
        }
    }
}
