use super::*;
use crate::http::RequestHead;
use penstock_plan::Field;
use proptest::prelude::*;

fn render(pieces: Vec<Piece>, place: Place, target: &str, header: &str) -> Result<String, Kind> {
    let head =
        RequestHead::compose("GET", target, "Shop.example:81", &[("x-a".to_owned(), header.to_owned())]).unwrap();
    let client = "::ffff:192.0.2.1".parse().ok();
    let view = View { port: Some(81), client, ..View::of(&head) };
    let mut out = Vec::new();
    let template = Template::build(&penstock_plan::Template(pieces), place).unwrap();
    template.render(&view, b"0123", &mut out).map(|()| String::from_utf8(out).unwrap())
}

fn text(text: &str) -> Piece {
    Piece::Text(text.into())
}

fn header() -> Piece {
    Piece::Value(Operand::Field(Field::Header("x-a".into())))
}

#[test]
fn values_stand_where_they_are_named() {
    let pieces = || {
        let values = [Operand::Scheme, Operand::Host, Operand::Port, Operand::Path].map(Piece::Value);
        let [scheme, host, port, path] = values;
        vec![scheme, text("://"), host, text(":"), port, path, Piece::MarkedQuery]
    };
    let all = |target| render(pieces(), Place::Location, target, "");
    assert_eq!(all("/a/%20b?c=d&e=%C3%A9").unwrap(), "http://shop.example:81/a/%20b?c=d&e=%C3%A9");
    assert_eq!(all("/a").unwrap(), "http://shop.example:81/a");
    assert_eq!(all("/a?").unwrap(), "http://shop.example:81/a?");
    assert_eq!(all("/{a}|^?{b}").unwrap(), "http://shop.example:81/%7Ba%7D%7C%5E?%7Bb%7D");
    let rest = vec![Piece::Value(Operand::ClientIp), text(" "), Piece::RequestId, text(" "), Piece::Query, header()];
    assert_eq!(render(rest, Place::Field, "/?q=1", "x").unwrap(), "192.0.2.1 0123 q=1x");
}

#[test]
fn values_are_escaped_for_their_place() {
    let evil = "//evil.example/<\"&'>\\ {%0d}\u{e9}";
    for (place, expected) in [
        (Place::Location, "%2F%2Fevil.example%2F%3C%22%26%27%3E%5C%20%7B%250d%7D%C3%A9"),
        (Place::Field, "//evil.example/<\"&'>\\ {%0d}%C3%A9"),
        (Place::Plain, evil),
        (Place::Markup, "//evil.example/&lt;&quot;&amp;&#39;&gt;\\ {%0d}\u{e9}"),
        (Place::Json, "//evil.example/\\u003c\\u0022\\u0026\\u0027\\u003e\\u005c {%0d}\u{e9}"),
    ] {
        assert_eq!(render(vec![header()], place, "/", evil).unwrap(), expected, "{place:?}");
    }
    // A parameter is decoded: what it hid does not come out.
    let parameter = || vec![Piece::Value(Operand::Field(Field::Query("q".into())))];
    let split = "/?q=a%0d%0aset-cookie:%20b%00";
    assert_eq!(render(parameter(), Place::Field, split, "").unwrap(), "a%0D%0Aset-cookie: b%00");
    assert_eq!(render(parameter(), Place::Location, split, "").unwrap(), "a%0D%0Aset-cookie%3A%20b%00");
    assert_eq!(render(parameter(), Place::Plain, split, "").unwrap(), "a\u{fffd}\u{fffd}set-cookie: b\u{fffd}");
    assert_eq!(render(parameter(), Place::Json, split, "").unwrap(), "a\\u000d\\u000aset-cookie: b\\u0000");
}

#[test]
fn what_is_rendered_has_a_limit() {
    let long = "x".repeat(LONGEST_FIELD / 2);
    assert!(render(vec![header(), header()], Place::Field, "/", &long).is_ok());
    assert_eq!(render(vec![header(), header(), text("x")], Place::Field, "/", &long), Err(Kind::TemplateTooLarge));
}

#[test]
fn what_has_no_host_is_not_sent_to_one() {
    let mut head = RequestHead::default();
    let limits = crate::http::HeadLimits { bytes: 1 << 10, fields: 10, uri: 1 << 10, elsewhere: false };
    head.parse(b"GET / HTTP/1.0\r\n\r\n", &limits).unwrap();
    let view = View::of(&head);
    let render = |place| {
        let template = penstock_plan::Template(vec![Piece::Value(Operand::Host)]);
        Template::build(&template, place).unwrap().render(&view, b"", &mut Vec::new())
    };
    assert_eq!(render(Place::Location), Err(Kind::BadHost));
    assert_eq!(render(Place::Field), Ok(()));
}

#[test]
fn a_place_that_is_not_known_takes_no_values() {
    let build = |pieces, place| Template::build(&penstock_plan::Template(pieces), place);
    assert!(build(vec![header()], Place::of_type("text/css")).is_err());
    assert_eq!(build(vec![text("a"), text("b")], Place::Unknown).unwrap().literal().unwrap(), "ab");
    assert!(build(vec![Piece::Value(Operand::JsonNumber("/a".into()))], Place::Json).is_err());
    assert!(build(vec![text("a\r\nb")], Place::Field).is_err());
    for (media, place) in [
        ("text/HTML; charset=utf-8", Place::Markup),
        ("image/svg+xml", Place::Markup),
        ("application/problem+json", Place::Json),
        ("text/plain", Place::Plain),
        ("text/javascript", Place::Unknown),
        ("", Place::Unknown),
    ] {
        assert_eq!(Place::of_type(media), place, "{media}");
    }
}

proptest! {
    #[test]
    fn no_value_leaves_its_place(value: Vec<u8>) {
        let template = |place| Template { pieces: Box::new([]), place };
        let escaped = |place, nature| {
            let mut out = Vec::new();
            template(place).escape(&value, nature, &mut out);
            out
        };
        for field in [escaped(Place::Field, Nature::Any), escaped(Place::Location, Nature::Url)] {
            prop_assert!(field.iter().all(|byte| (b' '..=b'~').contains(byte)));
        }
        prop_assert!(escaped(Place::Location, Nature::Any).iter().all(|byte| is_unreserved(*byte) || *byte == b'%'));
        let markup = escaped(Place::Markup, Nature::Any);
        prop_assert!(!markup.iter().any(|byte| b"<>\"'".contains(byte)));
        let mut json = vec![b'"'];
        json.extend(escaped(Place::Json, Nature::Any));
        json.push(b'"');
        let read: String = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(read, String::from_utf8_lossy(&value).into_owned());
    }
}
