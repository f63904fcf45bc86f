//! What an add-on says of a request: nothing, changes, or an answer in the endpoint's place.

use crate::error::Kind;
use crate::filter::headers::check_name;
use crate::http::{Fields, Known, Length, RequestHead, ResponseHead, uri};
use serde::{Deserialize, Deserializer};

/// Bytes that one call may write into a head, fields that it may write there, and bytes of an answer's body.
const LARGEST_HEAD: usize = 64 * 1024;
const MOST_EDITS: usize = 1000;
const LARGEST_BODY: usize = 1024 * 1024;

/// A verdict that may be carried out as it is.
#[derive(Debug, Default)]
pub struct Verdict {
    edits: Vec<Edit>,
    path: Option<String>,
    query: Option<Option<String>>,
    status: Option<u16>,
    answer: Option<Box<Answer>>,
}

/// An answer in the endpoint's place.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    fields: Fields,
    /// Sent as it is.
    pub body: Vec<u8>,
}

#[derive(Debug)]
enum Edit {
    Set(String, Vec<u8>),
    Add(String, Vec<u8>),
    Remove(String),
}

/// The JSON text that Python sends; a key that is missing changes nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    edits: Vec<(String, String, String)>,
    path: Option<String>,
    #[serde(default, deserialize_with = "given")]
    query: Option<Option<String>>,
    status: Option<u16>,
    answer: Option<AnswerDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerDocument {
    status: u16,
    headers: Vec<(String, String)>,
}

/// `null` drops the query, no key leaves it.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl Verdict {
    /// Judge what an add-on says; `body` is that of its answer, if it gives one.
    ///
    /// # Errors
    /// A sentence that says what may not be. Values are not in it: they may be secrets.
    pub fn read(document: &str, body: Vec<u8>) -> Result<Verdict, String> {
        let document: Document = serde_json::from_str(document).map_err(|error| format!("is no verdict: {error}"))?;
        let edits: Vec<Edit> = document.edits.iter().map(Edit::read).collect::<Result<_, _>>()?;
        let written: usize = document.edits.iter().map(|(_, name, value)| name.len() + value.len()).sum();
        if edits.len() > MOST_EDITS || written > LARGEST_HEAD {
            return Err("writes more fields than a head may have (1000, 64 KB)".to_owned());
        }
        Ok(Verdict {
            edits,
            path: document.path.as_deref().map(canonical).transpose()?,
            query: document.query.map(|query| query.map(check_query).transpose()).transpose()?,
            status: document.status.map(check_changed).transpose()?,
            answer: document.answer.map(|answer| Answer::read(&answer, body).map(Box::new)).transpose()?,
        })
    }

    /// Change a request; the answer, where there is one and the request goes no further.
    pub fn on_request(self, head: &mut RequestHead) -> Option<Box<Answer>> {
        if self.answer.is_some() {
            return self.answer;
        }
        self.edits.iter().for_each(|edit| edit.apply(&mut head.fields));
        if let Some(path) = &self.path {
            head.set_path(path);
        }
        if let Some(query) = &self.query {
            head.set_query(query.as_deref());
        }
        None
    }

    /// Change a response.
    ///
    /// # Errors
    /// `AddonFailed` for what a response has no place for: an answer, or another status than one that decides whether there is a
    /// body.
    pub fn on_response(&self, head: &mut ResponseHead) -> Result<(), Kind> {
        if self.answer.is_some() {
            return Err(Kind::AddonFailed);
        }
        if let Some(status) = self.status {
            if head.status != status && !has_body(head.status) {
                return Err(Kind::AddonFailed);
            }
            head.set_status(status);
        }
        self.edits.iter().for_each(|edit| edit.apply(&mut head.fields));
        Ok(())
    }

    /// Whether it is an answer.
    pub fn is_answer(&self) -> bool {
        self.answer.is_some()
    }
}

impl Answer {
    /// Make `head` its head.
    pub fn compose(&self, head: &mut ResponseHead) {
        head.compose(self.status);
        head.fields.clone_from(&self.fields);
        head.length = Length::Bytes(self.body.len() as u64);
        head.declared = Some(self.body.len() as u64);
    }

    fn read(document: &AnswerDocument, body: Vec<u8>) -> Result<Answer, String> {
        if !(200..600).contains(&document.status) {
            return Err(format!("answers with status {}; allowed: 200 to 599", document.status));
        }
        if body.len() > LARGEST_BODY {
            return Err(format!("answers with a body of {} bytes; allowed: 1 MB", body.len()));
        }
        if !body.is_empty() && !has_body(document.status) {
            return Err(format!("answers {} with a body, which has none", document.status));
        }
        let written: usize = document.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if document.headers.len() > MOST_EDITS || written > LARGEST_HEAD {
            return Err("answers with more fields than a head may have (1000, 64 KB)".to_owned());
        }
        let mut fields = Fields::default();
        for (name, value) in &document.headers {
            fields.push(field_name(name)?, field_value(name, value)?);
        }
        Ok(Answer { status: document.status, fields, body })
    }
}

impl Edit {
    fn read((what, name, value): &(String, String, String)) -> Result<Edit, String> {
        let (lower, bytes) = (field_name(name)?, field_value(name, value)?);
        match what.as_str() {
            "set" => Ok(Edit::Set(lower, bytes)),
            "add" => Ok(Edit::Add(lower, bytes)),
            "remove" if lower == "x-request-id" => Err("x-request-id is given to every request".to_owned()),
            "remove" => Ok(Edit::Remove(lower)),
            _ => Err(format!("is no verdict: {what:?} is not set, add or remove")),
        }
    }

    fn apply(&self, fields: &mut Fields) {
        match self {
            Edit::Set(name, value) => fields.set(name, value),
            Edit::Add(name, value) => fields.push(name, value),
            Edit::Remove(name) => {
                fields.remove(name);
            }
        }
    }
}

/// A name that may be changed, in lower case.
fn field_name(name: &str) -> Result<String, String> {
    check_name(name)?;
    let (known, lower) = (Known::of(name.as_bytes()), name.to_ascii_lowercase());
    if known == Known::Host {
        return Err("host cannot be changed: the route was chosen by it".to_owned());
    }
    if ["x-forwarded-", "x-client-cert-"].iter().any(|start| lower.starts_with(start)) {
        return Err(format!("{name} tells who the client is, and is written by the proxy alone"));
    }
    Ok(lower)
}

/// A value in Latin-1, back as bytes.
fn field_value(name: &str, value: &str) -> Result<Vec<u8>, String> {
    let byte = |character: char| match u8::try_from(character) {
        Ok(byte) if byte == b'\t' || !byte.is_ascii_control() => Ok(byte),
        Ok(_) => Err(format!("writes a control character into {name}")),
        Err(_) => Err(format!("writes a character beyond Latin-1 into {name}: encode it")),
    };
    value.chars().map(byte).collect()
}

fn canonical(path: &str) -> Result<String, String> {
    let mut canonical = Vec::new();
    // A query is another key: behind a `?` here, it would have escaped its own check.
    let kept = path.len() <= LARGEST_HEAD
        && !path.contains('?')
        && uri::canonical_path(path.as_bytes(), &mut canonical).is_ok();
    let message = || "leaves a path that is none: it begins with \"/\" and has other characters escaped".to_owned();
    String::from_utf8(canonical).ok().filter(|_| kept).ok_or_else(message)
}

fn check_query(query: String) -> Result<String, String> {
    if query.len() > LARGEST_HEAD || !uri::is_query(query.as_bytes()) {
        return Err("leaves a query that is none: other characters are escaped".to_owned());
    }
    Ok(query)
}

/// A status that a response with a body may change to.
fn check_changed(status: u16) -> Result<u16, String> {
    if (200..600).contains(&status) && has_body(status) {
        return Ok(status);
    }
    Err(format!("changes the status to {status}; allowed: 200 to 599 without 204, 205 and 304"))
}

fn has_body(status: u16) -> bool {
    status >= 200 && !matches!(status, 204 | 205 | 304)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: serde_json::Value) -> Result<Verdict, String> {
        Verdict::read(&document.to_string(), Vec::new())
    }

    #[test]
    fn edits_are_carried_out_in_order() {
        let pairs = [("X-A".to_owned(), "1".to_owned()), ("Cookie".to_owned(), "s".to_owned())];
        let mut head = RequestHead::compose("GET", "/old?q=1", "a", &pairs).unwrap();
        let verdict = read(json!({
            "edits": [["add", "x-a", "2"], ["remove", "COOKIE", ""], ["set", "X-User", "caf\u{e9}"]],
            "path": "/a/%62/../c", "query": null,
        }));
        assert!(verdict.unwrap().on_request(&mut head).is_none());
        assert_eq!((head.path(), head.query()), ("/a/c", None));
        assert_eq!(head.fields.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!((head.fields.get("cookie"), head.fields.get("x-user")), (None, Some(&b"caf\xe9"[..])));
    }

    #[test]
    fn an_empty_verdict_changes_nothing() {
        let mut head = RequestHead::compose("GET", "/a?b", "h", &[]).unwrap();
        assert!(read(json!({})).unwrap().on_request(&mut head).is_none());
        assert_eq!((head.path(), head.query(), head.fields.len()), ("/a", Some("b"), 1));
    }

    #[test]
    fn what_could_split_or_disguise_a_message_is_refused() {
        for (name, value) in [
            ("x-a", "1\r\nx-b: 2"),
            ("x-a", "\0"),
            ("x-a", "\u{7f}"),
            ("x-a", "\u{20ac}"),
            ("x a", "1"),
            ("", "1"),
            ("Content-Length", "5"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("upgrade", "h2c"),
            ("host", "other"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-user", "ann"),
            ("x-client-cert-subject", "CN=ann"),
        ] {
            for what in ["set", "add", "remove"] {
                let value = if what == "remove" && !name.starts_with('x') { "" } else { value };
                assert!(read(json!({ "edits": [[what, name, value]] })).is_err(), "{what} {name:?}");
            }
            assert!(read(json!({ "answer": { "status": 200, "headers": [[name, value]] } })).is_err(), "{name:?}");
        }
        for path in ["", "x", "/../x", "/a b", "/a\r\n", "/%00", "/a?b"] {
            assert!(read(json!({ "path": path })).is_err(), "{path:?}");
        }
        assert!(read(json!({ "query": "a b" })).is_err());
        assert!(read(json!({ "edits": [["swap", "x-a", "1"]] })).is_err());
        assert!(read(json!({ "paths": "/" })).is_err());
        assert!(Verdict::read("garbage", Vec::new()).is_err());
    }

    #[test]
    fn what_is_written_has_a_limit() {
        let many: Vec<_> = (0..=MOST_EDITS).map(|_| json!(["add", "x-a", ""])).collect();
        assert!(read(json!({ "edits": many })).is_err());
        assert!(read(json!({ "edits": [["set", "x-a", "v".repeat(LARGEST_HEAD)]] })).is_err());
        assert!(read(json!({ "path": format!("/{}", "a".repeat(LARGEST_HEAD)) })).is_err());
        let answer = json!({ "answer": { "status": 200, "headers": [] } }).to_string();
        assert!(Verdict::read(&answer, vec![0; LARGEST_BODY]).is_ok());
        assert!(Verdict::read(&answer, vec![0; LARGEST_BODY + 1]).is_err());
    }

    #[test]
    fn an_answer_is_one_a_client_can_read() {
        for (status, body, good) in
            [(200, "x", true), (401, "", true), (204, "", true), (204, "x", false), (101, "", false), (600, "", false)]
        {
            let document = json!({ "answer": { "status": status, "headers": [["x-a", "1"]] } }).to_string();
            assert_eq!(Verdict::read(&document, body.into()).is_ok(), good, "{status} {body:?}");
        }
        let mut head = RequestHead::compose("GET", "/", "a", &[]).unwrap();
        let answer = read(json!({ "answer": { "status": 403, "headers": [["x-a", "1"]] } })).unwrap();
        let mut response = ResponseHead::default();
        answer.on_request(&mut head).unwrap().compose(&mut response);
        assert_eq!((response.status, response.fields.get("x-a")), (403, Some(&b"1"[..])));
    }

    #[test]
    fn a_response_keeps_whether_it_has_a_body() {
        let mut head = ResponseHead::default();
        head.compose(200);
        let verdict = read(json!({ "status": 404, "edits": [["set", "x-a", "1"]] })).unwrap();
        assert_eq!(verdict.on_response(&mut head), Ok(()));
        assert_eq!((head.status, head.fields.get("x-a")), (404, Some(&b"1"[..])));
        for status in [101, 204, 304, 700] {
            assert!(read(json!({ "status": status })).is_err(), "{status}");
        }
        head.compose(304);
        assert_eq!(verdict.on_response(&mut head), Err(Kind::AddonFailed));
    }
}
