//! What a capture keeps of an exchange: one entry of an HTTP archive (HAR 1.2, the W3C Web Performance group's draft of 2012-08-14), with
//! secrets taken out before anything is kept.

use crate::http::{Fields, RequestHead, ResponseHead, Version, reason_phrase};
use crate::route::query;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::time::Duration;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "REDACTED";

/// A body as far as it was kept.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Its beginning.
    pub kept: Vec<u8>,
    /// Bytes that there were in all.
    pub whole: u64,
}

/// An exchange that has ended.
#[derive(Debug)]
pub struct Captured<'a> {
    /// When it began, as RFC 3339 writes it.
    pub began: &'a str,
    /// Name of the listener.
    pub listener: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The client's address.
    pub client: Option<String>,
    /// As the client sent it, but for fields of this connection alone.
    pub request: &'a RequestHead,
    /// That of the request.
    pub upload: &'a Body,
    /// As the client got it; `None`: it got none.
    pub response: Option<&'a ResponseHead>,
    /// That of the answer, as the client got it.
    pub download: &'a Body,
    /// Name of the route.
    pub route: Option<&'a str>,
    /// Name of the upstream.
    pub upstream: Option<&'a str>,
    /// Address of the endpoint that answered.
    pub endpoint: Option<&'a str>,
    /// The word of what went wrong.
    pub error: Option<&'a str>,
    /// The length of it.
    pub total: Duration,
    /// Until the head of the answer was there.
    pub answered: Option<Duration>,
    /// Spent on connecting.
    pub connect: Duration,
    /// Whether secrets stay.
    pub secrets: bool,
}

impl Captured<'_> {
    /// The entry, as JSON.
    pub fn entry(&self) -> Value {
        let total = millis(self.total);
        let (connect, answered) = (millis(self.connect), millis(self.answered.unwrap_or(self.total)));
        json!({
            "startedDateTime": self.began,
            "time": total,
            "request": self.request(),
            "response": self.response(),
            "cache": {},
            "timings": {
                "blocked": -1, "dns": -1, "ssl": -1,
                "connect": connect, "send": 0, "wait": (answered - connect).max(0.0), "receive": (total - answered).max(0.0),
            },
            "connection": self.listener,
            "_listener": self.listener,
            "_client": self.client,
            "_route": self.route,
            "_upstream": self.upstream,
            "_endpoint": self.endpoint,
            "_error": self.error,
        })
    }

    fn request(&self) -> Value {
        let head = self.request;
        let (path, port) = (head.path(), head.port().map_or_else(String::new, |port| format!(":{port}")));
        let query = head.query().map_or_else(String::new, |query| format!("?{query}"));
        let url = format!("{}://{}{port}{path}{query}", self.scheme, head.host());
        let url = self.hide(&url);
        let parameters = url.split_once('?').map_or("", |(_, query)| query);
        let mut request = json!({
            "method": head.method(),
            "url": url,
            "httpVersion": version(head.version),
            "cookies": [],
            "headers": self.fields(&head.fields),
            "queryString": pairs(parameters),
            "headersSize": -1,
            "bodySize": self.upload.whole,
        });
        if self.upload.whole > 0
            && let Some(request) = request.as_object_mut()
        {
            request.insert("postData".into(), self.body(&head.fields, self.upload, "mimeType"));
        }
        request
    }

    fn response(&self) -> Value {
        // HAR has no word for an answer that never came; browsers write it so.
        let Some(head) = self.response else {
            return json!({
                "status": 0, "statusText": "", "httpVersion": "", "cookies": [], "headers": [], "redirectURL": "",
                "content": {"size": 0, "mimeType": ""}, "headersSize": -1, "bodySize": -1,
            });
        };
        let mut content = self.body(&head.fields, self.download, "mimeType");
        if let Some(content) = content.as_object_mut() {
            content.insert("size".into(), json!(self.download.whole));
        }
        json!({
            "status": head.status,
            "statusText": reason_phrase(head.status),
            "httpVersion": version(head.version),
            "cookies": [],
            "headers": self.fields(&head.fields),
            "content": content,
            "redirectURL": head.fields.get("location").map_or_else(String::new, |to| self.hide(&text(to)).into_owned()),
            "headersSize": -1,
            "bodySize": self.download.whole,
        })
    }

    fn fields(&self, fields: &Fields) -> Vec<Value> {
        let one = |name: &[u8], value: &[u8]| {
            let (name, value) = (text(name), text(value));
            let value =
                if !self.secrets && is_secret_field(&name) { HIDDEN.into() } else { self.hide(&value).into_owned() };
            json!({"name": name, "value": value})
        };
        fields.iter().map(|field| one(field.name, field.value)).collect()
    }

    /// A body with its type. What is no text is written in Base64.
    fn body(&self, fields: &Fields, body: &Body, kind: &str) -> Value {
        let media = fields.get("content-type").map(text).unwrap_or_default();
        let mut written = Map::new();
        if body.whole > body.kept.len() as u64 {
            let comment = format!("the first {} of {} bytes", body.kept.len(), body.whole);
            written.insert("comment".into(), json!(comment));
            written.insert("_truncated".into(), json!(true));
        }
        let coded = fields.get("content-encoding").is_some();
        match whole_text(&body.kept).filter(|_| !coded) {
            Some(text) if media.starts_with("application/x-www-form-urlencoded") => {
                written.insert("text".into(), json!(self.hide(text)));
            }
            Some(text) => {
                written.insert("text".into(), json!(text));
            }
            None => {
                written.insert("text".into(), json!(BASE64.encode(&body.kept)));
                written.insert("encoding".into(), json!("base64"));
            }
        }
        written.insert(kind.into(), json!(media));
        Value::Object(written)
    }

    fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.secrets { Cow::Borrowed(text) } else { hide_pairs(text) }
    }
}

/// Whether a field's value is a secret: by its name, or because its name says so.
pub fn is_secret_field(name: &str) -> bool {
    const PARTS: [&str; 8] = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "session"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

/// A URL or a form with the values of secret parameters taken out, whatever spelling their names have. Behind `#` tokens are handed
/// over, too (RFC 6749 §4.2.2).
pub fn hide_pairs(text: &str) -> Cow<'_, str> {
    let is_mark = |mark: char| matches!(mark, '?' | '&' | ';' | '#');
    let is_secret =
        |piece: &str| piece.split_once('=').is_some_and(|(name, value)| !value.is_empty() && is_secret_name(name));
    if !text.split(is_mark).any(is_secret) {
        return Cow::Borrowed(text);
    }
    let mut hidden = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_mark) {
        let body = piece.trim_end_matches(is_mark);
        match body.split_once('=') {
            Some((name, _)) if is_secret(body) => {
                hidden.push_str(name);
                hidden.push('=');
                hidden.push_str(HIDDEN);
            }
            _ => hidden.push_str(body),
        }
        hidden.push_str(piece.get(body.len()..).unwrap_or_default());
    }
    Cow::Owned(hidden)
}

/// Whether a parameter of this name, as written, has a secret for its value.
fn is_secret_name(raw: &str) -> bool {
    const NAMES: [&str; 14] = [
        "auth",
        "key",
        "apikey",
        "api_key",
        "api-key",
        "pass",
        "passwd",
        "pwd",
        "code",
        "sig",
        "sid",
        "jwt",
        "otp",
        "assertion",
    ];
    const PARTS: [&str; 8] =
        ["token", "secret", "password", "signature", "credential", "session", "authorization", "passphrase"];
    let name = String::from_utf8_lossy(&query::decode(raw)).to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || PARTS.iter().any(|part| name.contains(part))
}

fn pairs(query: &str) -> Vec<Value> {
    let decoded = |raw| String::from_utf8_lossy(&query::decode(raw)).into_owned();
    let pieces = query::pieces(query).filter(|piece| !piece.is_empty()).map(query::split);
    pieces.map(|(name, value)| json!({"name": decoded(name), "value": decoded(value)})).collect()
}

/// The text of these bytes, of which the last character may have been cut.
fn whole_text(bytes: &[u8]) -> Option<&str> {
    match str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => str::from_utf8(bytes.get(..error.valid_up_to())?).ok(),
        Err(_) => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

/// Milliseconds with three digits behind the point.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_and_forms_are_taken_out_in_every_spelling() {
        for (text, hidden) in [
            ("/a?b=c&access_token=x&d=e", "/a?b=c&access_token=REDACTED&d=e"),
            ("/a?TOKEN=x", "/a?TOKEN=REDACTED"),
            ("/a?acc%65ss_tok%65n=x%26y", "/a?acc%65ss_tok%65n=REDACTED"),
            ("https://a/#id_token=x&state=y", "https://a/#id_token=REDACTED&state=y"),
            ("user=ann&password=p%3D%26;key=k=k", "user=ann&password=REDACTED;key=REDACTED"),
            ("/a?monkey=1&keys=2&code=", "/a?monkey=1&keys=2&code="),
            ("code=1", "code=REDACTED"),
            ("", ""),
            ("?&?#", "?&?#"),
        ] {
            assert_eq!(hide_pairs(text), hidden, "{text}");
        }
    }

    #[test]
    fn fields_that_carry_secrets_are_known_by_their_names() {
        for name in [
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "set-cookie",
            "X-Auth-Token",
            "x-api-key",
            "X-CSRF-Token",
        ] {
            assert!(is_secret_field(name), "{name}");
        }
        for name in ["host", "content-type", "etag", "x-request-id", "accept"] {
            assert!(!is_secret_field(name), "{name}");
        }
    }

    fn entry(secrets: bool, upload: &[u8], download: &[u8]) -> Value {
        let fields =
            [("Authorization", "Basic eDp5"), ("Referer", "http://a/?token=t"), ("Content-Type", "text/plain")];
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let request = RequestHead::compose("POST", "/a?q=1&api_key=k", "shop.example:8080", &fields).unwrap();
        let mut response = ResponseHead::default();
        response.compose(302);
        response.fields.push("location", "/b?session=s");
        response.fields.push("set-cookie", "a=b");
        let body = |bytes: &[u8]| Body { kept: bytes.to_vec(), whole: bytes.len() as u64 + 1 };
        let captured = Captured {
            began: "2026-11-30T00:00:00.000Z",
            listener: "web",
            scheme: "https",
            client: Some("192.0.2.1".into()),
            request: &request,
            upload: &body(upload),
            response: Some(&response),
            download: &body(download),
            route: Some("shop"),
            upstream: None,
            endpoint: None,
            error: None,
            total: Duration::from_micros(2500),
            answered: Some(Duration::from_micros(1500)),
            connect: Duration::from_micros(500),
            secrets,
        };
        captured.entry()
    }

    #[test]
    fn an_entry_has_no_secret_unless_it_is_asked_for() {
        let hidden = entry(false, b"x", b"y");
        let text = hidden.to_string();
        for secret in ["eDp5", "token=t", "=k", "session=s", "a=b"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert_eq!(hidden["request"]["url"], "https://shop.example:8080/a?q=1&api_key=REDACTED");
        assert_eq!(hidden["request"]["queryString"][1], json!({"name": "api_key", "value": "REDACTED"}));
        assert_eq!(hidden["response"]["redirectURL"], "/b?session=REDACTED");
        let timings = &hidden["timings"];
        assert_eq!(
            (&timings["connect"], &timings["wait"], &timings["receive"]),
            (&json!(0.5), &json!(1.0), &json!(1.0))
        );
        let shown = entry(true, b"x", b"y");
        assert_eq!(shown["request"]["headers"][1]["value"], "Basic eDp5");
        assert_eq!(shown["response"]["headers"][1]["value"], "a=b");
    }

    #[test]
    fn a_body_that_is_no_text_is_written_in_base64_and_a_cut_one_says_so() {
        let entry = entry(false, "\u{e9}".as_bytes().get(..1).unwrap(), b"\xff\x00");
        assert_eq!(entry["request"]["postData"]["text"], "");
        assert_eq!(entry["request"]["postData"]["comment"], "the first 1 of 2 bytes");
        let content = &entry["response"]["content"];
        assert_eq!(
            (&content["text"], &content["encoding"], &content["size"]),
            (&json!("/wA="), &json!("base64"), &json!(3))
        );
    }
}
