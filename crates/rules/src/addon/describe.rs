//! A head as an add-on is told of it: one JSON text. Bytes beyond ASCII are one character each (Latin-1), so that every value can
//! be told, and given back as it was.

use crate::http::{Fields, ResponseHead};
use crate::route::View;
use serde::Serialize;
use std::borrow::Cow;

#[derive(Serialize)]
struct Document<'a> {
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
    query: Option<&'a str>,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    client: Option<String>,
    listener: &'a str,
    route: &'a str,
    id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Response<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    status: u16,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// A request on this route, of this request id.
pub fn describe_request(view: &View<'_>, route: &str, id: &[u8]) -> String {
    write(&document(view, route, id))
}

/// The endpoint's response to it.
pub fn describe_response(view: &View<'_>, route: &str, id: &[u8], response: &ResponseHead) -> String {
    let answered = Response { status: response.status, headers: pairs(&response.fields) };
    write(&Document { response: Some(answered), ..document(view, route, id) })
}

fn document<'a>(view: &View<'a>, route: &'a str, id: &'a [u8]) -> Document<'a> {
    let head = view.head;
    Document {
        method: head.method(),
        scheme: view.scheme,
        host: head.host(),
        port: head.port(),
        path: head.path(),
        query: head.query(),
        headers: pairs(&head.fields),
        client: view.client.map(|client| client.to_string()),
        listener: view.listener,
        route,
        id: text(id),
        response: None,
    }
}

fn pairs(fields: &Fields) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

fn write(document: &Document<'_>) -> String {
    // Texts and numbers only: there is nothing that could not be written.
    serde_json::to_string(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestHead;
    use serde_json::{Value, json};

    #[test]
    fn every_byte_of_a_value_is_told() {
        let mut head = RequestHead::compose("GET", "/a?b=c", "Shop.example:81", &[]).unwrap();
        head.fields.push("x-name", b"caf\xe9");
        let view = View { listener: "web", port: Some(80), client: Some([192, 0, 2, 1].into()), ..View::of(&head) };
        let mut response = ResponseHead::default();
        response.compose(404);
        response.fields.push("x-a", "1");
        let told: Value = serde_json::from_str(&describe_response(&view, "all", b"77", &response)).unwrap();
        assert_eq!(
            told,
            json!({
                "method": "GET", "scheme": "http", "host": "shop.example", "port": 81, "path": "/a", "query": "b=c",
                "headers": [["host", "Shop.example:81"], ["x-name", "caf\u{e9}"]],
                "client": "192.0.2.1", "listener": "web", "route": "all", "id": "77",
                "response": {"status": 404, "headers": [["x-a", "1"]]},
            })
        );
        let request: Value = serde_json::from_str(&describe_request(&view, "all", b"77")).unwrap();
        assert_eq!(request.get("response"), None);
    }
}
