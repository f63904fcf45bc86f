//! Header fields set, added and removed.

use super::{Asked, CorsAnswer, OnRequest, OnResponse};
use crate::error::Kind;
use crate::http::{Fields, Known, RequestHead};

/// Fields with their values, ready to be written.
type Pairs = Box<[(Box<str>, Box<str>)]>;

/// Replace every field of each name by one.
#[derive(Debug)]
pub(super) struct Set(Pairs);

/// Append fields.
#[derive(Debug)]
pub(super) struct Add(Pairs);

/// Drop every field of each name.
#[derive(Debug)]
pub(super) struct Remove(Box<[Box<str>]>);

impl Set {
    pub(super) fn build(fields: &[(String, String)]) -> Result<Set, String> {
        pairs(fields).map(Set)
    }

    fn edit(&self, fields: &mut Fields) {
        self.0.iter().for_each(|(name, value)| fields.set(name, value.as_bytes()));
    }
}

impl Add {
    pub(super) fn build(fields: &[(String, String)]) -> Result<Add, String> {
        pairs(fields).map(Add)
    }

    fn edit(&self, fields: &mut Fields) {
        self.0.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
    }
}

impl Remove {
    pub(super) fn build(names: &[String]) -> Result<Remove, String> {
        let names = names.iter().map(|name| {
            check_name(name)?;
            if Known::of(name.as_bytes()) == Known::Host {
                return Err("host cannot be removed: every request has one".to_owned());
            }
            Ok(Box::from(name.as_str()))
        });
        names.collect::<Result<_, _>>().map(Remove)
    }

    fn edit(&self, fields: &mut Fields) {
        for name in &self.0 {
            fields.remove(name);
        }
    }
}

macro_rules! both_ways {
    ($($name:ident)+) => {$(
        impl OnRequest for $name {
            fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
                self.edit(&mut head.fields);
                Ok(None)
            }
        }

        impl OnResponse for $name {
            fn apply(&self, _: &Asked<'_>, fields: &mut Fields) {
                self.edit(fields);
            }
        }
    )+};
}

both_ways! { Set Add Remove }

fn pairs(fields: &[(String, String)]) -> Result<Pairs, String> {
    let pairs = fields.iter().map(|(name, value)| {
        check_name(name)?;
        check_value(value)?;
        Ok((Box::from(name.as_str()), Box::from(value.as_str())))
    });
    pairs.collect()
}

/// Python has checked the same with better words; what could split a message is refused here once more.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if !is_token(name.as_bytes()) {
        return Err(format!("{name:?} is not a field name"));
    }
    match Known::of(name.as_bytes()) {
        Known::Connection
        | Known::ContentLength
        | Known::Expect
        | Known::Http2Settings
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::Te
        | Known::Trailer
        | Known::TransferEncoding
        | Known::Upgrade => Err(format!("{name} belongs to the connection or frames the message")),
        Known::Forwarded
        | Known::Via
        | Known::XForwardedFor
        | Known::XForwardedHost
        | Known::XForwardedPort
        | Known::XForwardedPrefix
        | Known::XForwardedProto => Err(format!("{name} tells who the client is, and is written by the proxy alone")),
        _ => Ok(()),
    }
}

pub(crate) fn check_value(value: &str) -> Result<(), String> {
    match value.chars().find(|character| character.is_control() && *character != '\t') {
        Some(character) => Err(format!("a field value may not contain {character:?}")),
        None => Ok(()),
    }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Add `name` to `Vary`, unless it says so or says `*` already.
pub(super) fn vary(fields: &mut Fields, name: &str) {
    let says = |token: &[u8]| token == b"*" || token.eq_ignore_ascii_case(name.as_bytes());
    let mut tokens = fields.all("vary").flat_map(|line| line.split(|&byte| byte == b','));
    if !tokens.any(|token| says(token.trim_ascii())) {
        drop(tokens);
        fields.push("vary", name);
    }
}
