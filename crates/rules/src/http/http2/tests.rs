use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 2048, fields: 10, uri: 64, elsewhere: false };
const GET: Pseudo<'_> = Pseudo {
    method: "GET",
    scheme: Some("https"),
    authority: Some("A.example:8443"),
    path: "/x/./y?z",
    protocol: None,
    elsewhere: false,
};
const WEBSOCKET: Pseudo<'_> = Pseudo { method: "CONNECT", protocol: Some("websocket"), ..GET };

fn read(pseudo: Pseudo<'_>, fields: &[(&str, &str)], ends: bool) -> Result<RequestHead, Kind> {
    let mut head = RequestHead::default();
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    head.assemble(&pseudo, fields, ends, &LIMITS).map(|()| head)
}

#[test]
fn a_head_is_read_into_the_same_form() {
    let fields = [("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("host", "a.example.:8443"), ("x_b", "2")];
    let head = read(GET, &fields, true).unwrap();
    assert_eq!((head.method(), head.path(), head.query()), ("GET", "/x/y", Some("z")));
    assert_eq!((head.host(), head.port(), head.version), ("a.example", Some(8443), Version::Http2));
    assert_eq!(head.fields.all("cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
    assert_eq!((head.fields.all("host").count(), head.dropped), (1, 1));
    assert_eq!((head.length, head.options.keep_alive), (Length::None, true));
    let head = read(Pseudo { authority: None, ..GET }, &[("host", "b"), ("te", "trailers")], true).unwrap();
    assert_eq!((head.host(), head.options.te_trailers), ("b", true));
    assert_eq!(
        read(Pseudo { method: "OPTIONS", path: "*", ..GET }, &[], true).unwrap().target,
        super::super::Target::Server
    );
}

#[test]
fn a_forward_proxy_is_told_where_to_go_by_the_authority() {
    let limits = HeadLimits { elsewhere: true, ..LIMITS };
    let ask = |pseudo: Pseudo<'_>, fields: &[(&str, &str)], ends| {
        let mut head = RequestHead::default();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        head.assemble(&Pseudo { elsewhere: true, ..pseudo }, fields, ends, &limits).map(|()| head)
    };
    let get = Pseudo { scheme: Some("http"), ..GET };
    let connect = Pseudo { method: "CONNECT", scheme: None, path: "", ..GET };
    for (pseudo, target, url, host, port, path, length) in [
        (get, Target::Elsewhere, "http://A.example:8443/x/./y?z", "a.example", Some(8443), "/x/./y", Length::Chunked),
        (
            Pseudo { method: "OPTIONS", path: "*", authority: Some("127.1"), ..get },
            Target::Elsewhere,
            "http://127.1",
            "127.0.0.1",
            None,
            "*",
            Length::Chunked,
        ),
        (GET, Target::Secure, "https://A.example:8443/x/./y?z", "a.example", Some(8443), "/x/./y", Length::Chunked),
        (connect, Target::Tunnel, "A.example:8443", "a.example", Some(8443), "", Length::None),
        (
            Pseudo { scheme: Some("http"), ..WEBSOCKET },
            Target::Elsewhere,
            "http://A.example:8443/x/./y?z",
            "a.example",
            Some(8443),
            "/x/./y",
            Length::None,
        ),
    ] {
        let head = ask(pseudo, &[], false).unwrap();
        assert_eq!((head.target, head.raw_target(), head.host(), head.port()), (target, url, host, port));
        assert_eq!((head.path(), head.length), (path, length), "{url}");
    }
    let long = format!("/{}", "x".repeat(60));
    for (pseudo, fields, kind) in [
        (Pseudo { authority: None, ..get }, &[("host", "a")][..], Kind::BadHost),
        (Pseudo { authority: None, ..connect }, &[("host", "a:443")], Kind::BadHost),
        (Pseudo { authority: Some("a"), ..connect }, &[], Kind::BadUri),
        (Pseudo { authority: Some("u@a:443"), ..connect }, &[], Kind::BadHost),
        (Pseudo { authority: Some("u@a"), ..get }, &[], Kind::BadHost),
        (Pseudo { authority: Some("1.2.3.256"), ..get }, &[], Kind::BadHost),
        (Pseudo { path: &long, ..get }, &[], Kind::UriTooLong),
        (Pseudo { method: "TRACE", ..get }, &[], Kind::MethodNotAllowed),
        (Pseudo { protocol: Some("connect-udp"), ..WEBSOCKET }, &[], Kind::UnknownProtocol),
        (connect, &[("content-length", "1")], Kind::BadContentLength),
        (get, &[("host", "b")], Kind::BadHost),
    ] {
        assert_eq!(ask(pseudo, fields, false).err(), Some(kind), "{pseudo:?} {fields:?}");
    }
}

#[test]
fn the_end_of_the_stream_and_the_length_agree() {
    let post = Pseudo { method: "POST", ..GET };
    for (pseudo, fields, ends, expected) in [
        (GET, &[][..], true, Ok(Length::None)),
        (post, &[], true, Ok(Length::Bytes(0))),
        (post, &[], false, Ok(Length::Chunked)),
        (post, &[("content-length", "5")], false, Ok(Length::Bytes(5))),
        (post, &[("content-length", "5")], true, Err(Kind::BadContentLength)),
        (post, &[("content-length", "0")], true, Ok(Length::Bytes(0))),
        (post, &[("content-length", "5"), ("content-length", "5")], false, Err(Kind::BadContentLength)),
        (post, &[("content-length", "+5")], false, Err(Kind::BadContentLength)),
    ] {
        assert_eq!(read(pseudo, fields, ends).map(|head| head.length), expected, "{fields:?} {ends}");
    }
}

#[test]
fn a_websocket_is_the_request_that_it_is_in_http1() {
    let fields = [("sec-websocket-version", "13"), ("sec-websocket-key", "theirs")];
    let mut head = read(WEBSOCKET, &fields, false).unwrap();
    assert!(head.is_extended_connect() && !read(GET, &[], true).unwrap().is_extended_connect());
    assert_eq!((head.method(), head.path(), head.length), ("GET", "/x/y", Length::None));
    assert_eq!(head.fields.all("upgrade").collect::<Vec<_>>(), [b"websocket"]);
    assert_eq!(head.fields.all("sec-websocket-key").count(), 0);
    head.set_websocket_key(*b"the sample nonce");
    assert_eq!(head.fields.all("sec-websocket-key").collect::<Vec<_>>(), [b"dGhlIHNhbXBsZSBub25jZQ=="]);
}

#[test]
fn an_upgrade_has_a_form_on_a_stream_if_it_is_a_websocket() {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let accept = |method: &str, lines: &str| {
        let mut head = RequestHead::default();
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n{lines}\r\n");
        head.parse(text.as_bytes(), &LIMITS).unwrap();
        head.websocket_accept()
    };
    let asks = format!("Upgrade: WebSocket\r\nSec-WebSocket-Key: {key}\r\n");
    // RFC 6455 §1.3.
    assert_eq!(accept("GET", &asks), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
    for (method, lines, kind) in [
        ("POST", asks.clone(), Kind::UnknownProtocol),
        ("GET", format!("{asks}Content-Length: 1\r\n"), Kind::UnknownProtocol),
        ("GET", format!("{asks}Transfer-Encoding: chunked\r\n"), Kind::UnknownProtocol),
        ("GET", asks.replace("WebSocket\r", "other\r"), Kind::UnknownProtocol),
        ("GET", "Upgrade: websocket\r\n".to_owned(), Kind::BadHead),
        ("GET", format!("{asks}Sec-WebSocket-Key: {key}\r\n"), Kind::BadHead),
        ("GET", asks.replace(key, "dGhlIHNhbXBsZSBub25j"), Kind::BadHead),
        ("GET", asks.replace(key, "no Base64"), Kind::BadHead),
    ] {
        assert_eq!(accept(method, &lines), Err(kind), "{method} {lines}");
    }
}

#[test]
fn an_answer_that_opens_a_websocket_is_a_switch_in_http1() {
    let mut head = answered(200, &[("content-length", "0"), ("sec-websocket-accept", "x")], false, false).unwrap();
    head.become_switch("right");
    assert_eq!((head.status, head.length, head.declared, head.options.upgrade), (101, Length::None, None, true));
    let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
    assert_eq!(fields, [(&b"sec-websocket-accept"[..], &b"right"[..]), (b"upgrade", b"websocket")]);
}

#[test]
fn what_is_no_request_names_its_reason() {
    let long = "n".repeat(257);
    for (pseudo, fields, kind) in [
        (Pseudo { path: "", ..GET }, &[][..], Kind::BadHead),
        (Pseudo { path: "x", ..GET }, &[], Kind::BadHead),
        (Pseudo { path: "http://a.example:8443/", ..GET }, &[], Kind::BadHead),
        (Pseudo { path: "*", ..GET }, &[], Kind::BadHead),
        (Pseudo { path: "/../x", ..GET }, &[], Kind::BadUri),
        (Pseudo { method: "XGET", ..GET }, &[], Kind::BadHead),
        (Pseudo { method: "CONNECT", path: "", ..GET }, &[], Kind::MethodNotAllowed),
        (Pseudo { scheme: Some("ftp"), ..GET }, &[], Kind::BadHead),
        (Pseudo { authority: None, ..GET }, &[], Kind::BadHost),
        (Pseudo { authority: None, ..GET }, &[("host", "a"), ("host", "a")], Kind::BadHost),
        (Pseudo { authority: Some("u@a"), ..GET }, &[], Kind::BadHost),
        (Pseudo { protocol: Some("websocket"), ..GET }, &[], Kind::BadHead),
        (Pseudo { protocol: Some("connect-udp"), ..WEBSOCKET }, &[], Kind::UnknownProtocol),
        (Pseudo { path: "", ..WEBSOCKET }, &[], Kind::BadHead),
        (WEBSOCKET, &[("content-length", "0")], Kind::BadContentLength),
        (WEBSOCKET, &[("upgrade", "websocket")], Kind::BadConnection),
        (GET, &[("host", "b")], Kind::BadHost),
        (GET, &[("host", "a.example")], Kind::BadHost),
        (GET, &[("connection", "close")], Kind::BadConnection),
        (GET, &[("transfer-encoding", "chunked")], Kind::BadConnection),
        (GET, &[("te", "gzip")], Kind::BadConnection),
        (GET, &[("te", "trailers"), ("te", "trailers")], Kind::BadConnection),
        (GET, &[("x", " a")], Kind::BadHead),
        (GET, &[("x", "a\t")], Kind::BadHead),
        (GET, &[("content_length", "1")], Kind::BadHead),
        (GET, &[("expect", "y")], Kind::BadExpect),
        (GET, &[(&long, "1")], Kind::HeadTooLarge),
        (GET, &[("cookie", "a"); 11], Kind::TooManyFields),
    ] {
        assert_eq!(read(pseudo, fields, true).err(), Some(kind), "{pseudo:?} {fields:?}");
    }
    let target = format!("/{}", "x".repeat(64));
    assert_eq!(read(Pseudo { path: &target, ..GET }, &[], true).err(), Some(Kind::UriTooLong));
    let value = "x".repeat(2048);
    assert_eq!(read(GET, &[("x", &value)], true).err(), Some(Kind::HeadTooLarge));
}

fn answered(status: u16, fields: &[(&str, &str)], ends: bool, to_head: bool) -> Result<ResponseHead, Kind> {
    let mut head = ResponseHead::default();
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    head.assemble(status, fields, (ends, to_head), &LIMITS).map(|()| head)
}

#[test]
fn an_answer_has_the_length_that_its_stream_has() {
    let five = &[("content-length", "5")][..];
    for (status, fields, ends, to_head, expected) in [
        (200, five, false, false, Ok((Length::Bytes(5), Some(5)))),
        (200, five, true, false, Err(Kind::BadResponse)),
        (200, five, true, true, Ok((Length::None, Some(5)))),
        (304, five, true, false, Ok((Length::None, Some(5)))),
        (304, &[], false, false, Ok((Length::None, None))),
        (200, &[], true, false, Ok((Length::None, None))),
        (200, &[], false, false, Ok((Length::Chunked, None))),
        (200, &[("content-length", "5"), ("content-length", "5")], false, false, Err(Kind::BadResponse)),
        (103, &[("link", "x")], false, false, Ok((Length::None, None))),
    ] {
        let read = answered(status, fields, ends, to_head).map(|head| (head.length, head.declared));
        assert_eq!(read, expected, "{status} {fields:?} {ends} {to_head}");
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("x", " a"),
        ("x", "a\t"),
    ] {
        assert_eq!(answered(200, &[(name, value)], false, false).err(), Some(Kind::BadResponse), "{name}: {value}");
    }
    assert_eq!(answered(101, &[], false, false).err(), Some(Kind::BadResponse));
    assert_eq!(answered(103, &[], true, false).err(), Some(Kind::BadResponse));
    assert_eq!(answered(200, &[("a", "b"); 11], false, false).err(), Some(Kind::ResponseTooLarge));
    let value = "x".repeat(2048);
    assert_eq!(answered(200, &[("x", &value)], false, false).err(), Some(Kind::ResponseTooLarge));
}
