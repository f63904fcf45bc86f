use super::*;
use crate::http::RequestHead;
use crate::list::{Draft, List};
use penstock_plan::{ListKind, Operand};
use proptest::prelude::*;
use serde_json::json;

/// What a predicate, written as in a plan, says of one and the same request.
fn says(predicate: &serde_json::Value) -> bool {
    let fields = [
        ("X-Two", "a"),
        ("x-two", "B"),
        ("X-Bytes", "a\u{e9}"),
        ("Cookie", "lb=1; Lb=2"),
        ("cookie", "sid=\"x=y\"; lb=3"),
        ("User-Agent", "Mozilla/5.0 Firefox"),
        ("X-Empty", ""),
    ];
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let head = RequestHead::compose("GET", "/a/b.png?q=x+y&q=2&e", "Shop.Example:81", &fields).unwrap();
    let client = Some("::ffff:10.1.2.3".parse().unwrap());
    let view = View { listener: "web", port: Some(8080), client, ..View::of(&head) };
    let predicate: Predicate = serde_json::from_value(predicate.clone()).unwrap();
    let test = Test::compile(&predicate, "x", &Lists::default()).unwrap();
    assert_eq!(test.refusal(&view).is_none(), test.matches(&view));
    test.matches(&view)
}

fn compare(left: serde_json::Value, operator: &str, right: serde_json::Value) -> serde_json::Value {
    json!({"compare": {"left": left, "operator": operator, "right": right, "at": [0, 1]}})
}

#[test]
fn values_are_read_as_documented() {
    let header = |name| json!({"field": {"header": name}});
    let query = |name| json!({"field": {"query": name}});
    let cookie = |name| json!({"field": {"cookie": name}});
    let text = |text: &str| json!({ "text": text });
    for (left, right) in [
        (json!("host"), text("shop.example")),
        (json!("path"), text("/a/b.png")),
        (json!("method"), text("GET")),
        (json!("scheme"), text("http")),
        (json!("listener"), text("web")),
        (json!("port"), json!({"number": 8080})),
        (json!("client_ip"), text("10.1.2.3")),
        (header("x-two"), text("a, B")),
        (json!({"lower": header("x-two")}), text("a, b")),
        (json!({"lower": {"lower": text("ÀB")}}), text("Àb")),
        (header("x-empty"), text("")),
        (query("q"), text("x y")),
        (query("e"), text("")),
        (cookie("lb"), text("1")),
        (cookie("Lb"), text("2")),
        (cookie("sid"), text("\"x=y\"")),
    ] {
        assert!(says(&compare(left.clone(), "==", right.clone())), "{left}");
        assert!(says(&compare(right.clone(), "==", left.clone())), "{left}");
        assert!(!says(&compare(left.clone(), "!=", right)), "{left}");
    }
}

#[test]
fn a_missing_value_is_false_whatever_is_asked() {
    let missing = json!({"field": {"header": "x-none"}});
    for operator in ["==", "!=", "<", "<=", ">", ">="] {
        assert!(!says(&compare(missing.clone(), operator, json!({"text": "a"}))), "{operator}");
        assert!(!says(&compare(json!("client_port"), operator, json!({"number": 1}))), "{operator}");
    }
    assert!(!says(&json!({"matches": {"value": missing, "regex": "", "at": [0, 1]}})));
    assert!(!says(&json!({"starts_with": {"value": missing, "prefixes": [""], "at": [0, 1]}})));
    assert!(says(&json!({"not": compare(missing, "==", json!({"text": "a"}))})));
}

#[test]
fn tests_say_what_their_names_say() {
    let at = [0, 1];
    let agent = json!({"field": {"header": "user-agent"}});
    let many: Vec<_> =
        (0..20).map(|n| json!({"text": format!("h{n}")})).chain([json!({"text": "shop.example"})]).collect();
    for (predicate, expected) in [
        (json!({"in": {"value": "host", "set": many, "at": at}}), true),
        (json!({"in": {"value": "host", "set": many[..20], "at": at}}), false),
        (json!({"in": {"value": "port", "set": [{"number": 443}, {"number": 8080}, {"number": 1}], "at": at}}), true),
        (json!({"in_networks": {"networks": ["192.0.2.0/24", "10.0.0.0/8"], "at": at}}), true),
        (json!({"in_networks": {"networks": [], "at": at}}), false),
        (json!({"contains": {"value": agent, "part": {"text": "Firefox"}, "at": at}}), true),
        (json!({"contains": {"value": agent, "part": {"text": "firefox"}, "at": at}}), false),
        (json!({"contains": {"value": {"lower": agent}, "part": {"text": "firefox"}, "at": at}}), true),
        (json!({"contains": {"value": "path", "part": {"field": {"query": "e"}}, "at": at}}), true),
        (json!({"exists": {"field": {"header": "x-empty"}, "at": at}}), true),
        (json!({"exists": {"field": {"query": "x"}, "at": at}}), false),
        (json!({"exists": {"field": {"cookie": "sid"}, "at": at}}), true),
        (json!({"ends_with": {"value": "path", "suffixes": [".jpg", ".png"], "at": at}}), true),
        (json!({"matches": {"value": "path", "regex": "^/[a-z]/", "at": at}}), true),
        (json!({"matches": {"value": {"field": {"header": "x-bytes"}}, "regex": "^aé$", "at": at}}), true),
        (compare(json!("port"), ">", json!({"number": 1024})), true),
        (compare(json!("path"), "<", json!({"text": "/a/c"})), true),
        (json!({"and": []}), true),
        (json!({"or": []}), false),
    ] {
        assert_eq!(says(&predicate), expected, "{predicate}");
    }
}

#[test]
fn globs_cover_the_whole_value() {
    for (pattern, expected) in [
        ("/a/*", true),
        ("/a/b.png", true),
        ("/*", false),
        ("/**", true),
        ("/a/**", true),
        ("**.png", true),
        ("*.png", false),
        ("/?/b.pn?", true),
        ("/a?b.png", false),
        ("/a/b.png?", false),
        ("/a/b+png", false),
        ("/a", false),
        ("", false),
        ("***", true),
    ] {
        assert_eq!(says(&json!({"glob": {"value": "path", "pattern": pattern, "at": [0, 1]}})), expected, "{pattern}");
    }
}

#[test]
fn lists_are_asked_and_say_where_they_have_it() {
    let list = |name: &str, kind, text: &str| {
        let mut draft = Draft::new(kind);
        draft.add(0, text.as_bytes());
        Arc::new(Shared::new(name, kind, [format!("{name}.txt")], draft.finish().unwrap()))
    };
    let social = list("social", ListKind::Domains, "a.test\nsocial.test");
    let office = list("office", ListKind::Networks, "10.0.0.0/8");
    let lists: Lists = [Arc::clone(&social), office].into_iter().collect();
    let predicate = serde_json::from_value(json!({"and": [
        {"in_list": {"value": "host", "list": "social", "at": [0, 22]}},
        {"not": {"in_list": {"value": "client_ip", "list": "office", "at": [27, 60]}}},
    ]}));
    let test = Test::compile(&predicate.unwrap(), "x", &lists).unwrap();
    let head = RequestHead::compose("GET", "/", "www.social.test", &[]).unwrap();
    let view = |client: &str| View { client: Some(client.parse().unwrap()), ..View::of(&head) };
    assert!(test.matches(&view("192.0.2.1")) && !test.matches(&view("10.1.2.3")));
    let hits: Vec<_> = test.hits(&view("10.1.2.3")).into_iter().map(|hit| (hit.list, hit.entry, hit.line)).collect();
    assert_eq!(hits, [("social".into(), "social.test".into(), 2), ("office".into(), "10.0.0.0/8".to_owned(), 1)]);
    let listed = test.listed(&view("192.0.2.1")).unwrap();
    assert_eq!((listed.list.as_str(), listed.source.as_str(), listed.line), ("social", "social.txt", 2));
    let refusal = test.refusal(&view("10.1.2.3")).unwrap();
    assert_eq!((refusal.at, refusal.found.as_deref()), (Some(Span(27, 60)), Some("10.1.2.3")));
    social.put(List::empty(ListKind::Domains));
    assert!(!test.matches(&view("192.0.2.1")), "a refresh counts at once");
    for (value, list) in [("host", "office"), ("client_ip", "social"), ("host", "none"), ("port", "social")] {
        let wrong = serde_json::from_value(json!({"in_list": {"value": value, "list": list, "at": [0, 1]}})).unwrap();
        assert_eq!(Test::compile(&wrong, "x", &lists).unwrap_err().len(), 1, "{value} in {list}");
    }
}

#[test]
fn the_list_that_is_told_is_one_for_which_the_test_matches() {
    let list = |name: &str, text: &str| {
        let mut draft = Draft::new(ListKind::Domains);
        draft.add(0, text.as_bytes());
        Arc::new(Shared::new(name, ListKind::Domains, [format!("{name}.txt")], draft.finish().unwrap()))
    };
    let lists: Lists =
        [list("first", "a.test"), list("second", "# one\na.test"), list("third", "b.test")].into_iter().collect();
    let within = |name: &str| json!({"in_list": {"value": "host", "list": name, "at": [0, 1]}});
    let post = json!({"compare": {"left": "method", "operator": "==", "right": {"text": "POST"}, "at": [0, 1]}});
    let head = RequestHead::compose("GET", "/", "a.test", &[]).unwrap();
    for (predicate, expected) in [
        (json!({"or": [{"and": [within("first"), post]}, within("second")]}), Some(("second", 2))),
        (json!({"or": [within("third"), within("first")]}), Some(("first", 1))),
        (json!({"or": [{"not": within("third")}, within("third")]}), None),
        (json!({"not": {"and": [within("first"), post]}}), None),
    ] {
        let test = Test::compile(&serde_json::from_value(predicate.clone()).unwrap(), "x", &lists).unwrap();
        assert!(test.matches(&View::of(&head)), "{predicate}");
        let listed = test.listed(&View::of(&head));
        assert_eq!(listed.as_ref().map(|hit| (hit.list.as_str(), hit.line)), expected, "{predicate}");
    }
}

proptest! {
    #[test]
    fn any_expression_and_any_header_gets_an_answer(regex: String, pattern: String, value: Vec<u8>) {
        let mut head = RequestHead::compose("GET", "/", "a", &[]).unwrap();
        head.fields.push("x", &value);
        head.fields.push("cookie", &value);
        let view = View { listener: "", scheme: "", ..View::of(&head) };
        for field in [Field::Header("x".into()), Field::Cookie("c".into())] {
            let of = Operand::Lower(Box::new(Operand::Field(field)));
            for predicate in [
                Predicate::Matches { value: of.clone(), regex: regex.clone(), at: Span(0, 1) },
                Predicate::Glob { value: of, pattern: pattern.clone(), at: Span(0, 1) },
            ] {
                if let Ok(test) = Test::compile(&predicate, "x", &Lists::default()) {
                    let _ = test.refusal(&view);
                }
            }
        }
    }

    #[test]
    fn globs_always_compile(pattern: String) {
        let predicate = Predicate::Glob { value: Operand::Path, pattern, at: Span(0, 1) };
        prop_assert!(Test::compile(&predicate, "x", &Lists::default()).is_ok());
    }
}
