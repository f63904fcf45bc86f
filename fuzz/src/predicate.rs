//! Compiled expressions: any document gives a test or faults, a test gives an answer on any request, and the table, the test
//! and the explanation say the same.

use arbitrary::{Arbitrary, Unstructured};
use penstock_plan::{Comparison, Field, ListKind, Literal, Operand, Operator, Plan, Predicate, Span};
use penstock_rules::forward::Moment;
use penstock_rules::http::RequestHead;
use penstock_rules::list::{Draft, Lists, Shared};
use penstock_rules::route::explain::{Now, Request, Standing, State, explain};
use penstock_rules::route::json::{self, Body};
use penstock_rules::route::{Table, Test, View};
use penstock_rules::tls::Client;
use std::sync::{Arc, LazyLock, OnceLock};

/// Requests that every test is asked about.
const REQUESTS: &[(&str, &str, &str, &[(&str, &str)])] = &[
    ("GET", "/", "a", &[]),
    (
        "POST",
        "/a/b.png?q=x&a=%20&q=",
        "shop.example:8080",
        &[
            ("x-a", "1"),
            ("X-A", "2"),
            ("cookie", "c=d; a=; c=e"),
            ("content-type", "text/json"),
            ("content-length", "9"),
        ],
    ),
    ("PUT", "/a", "a", &[("content-type", "application/json"), ("transfer-encoding", "chunked")]),
    ("OPTIONS", "/%C3%A9/[x]?", "[::1]:80", &[("cookie", "\u{e9}=;;=a"), ("user-agent", "\u{e9}\u{ff}")]),
];

/// Whose certificate clients show.
static ALICE: LazyLock<Client> = LazyLock::new(|| Client {
    subject: "CN=alice,O=Example".into(),
    names: "DNS:alice.example, URI:spiffe://example/alice".into(),
    fingerprint: "0123456789abcdef".repeat(4),
});

const BODY: &[u8] = br#"{"a": "x", "n": 1, "q": null, "list": [true, {"": "\u00e9"}], "/": 1e9}"#;

/// Lists that predicates may look into.
fn lists() -> &'static Lists {
    static LISTS: LazyLock<Lists> = LazyLock::new(|| {
        let list = |name: &str, kind, text: &str| {
            let mut draft = Draft::new(kind);
            draft.add(0, text.as_bytes());
            Arc::new(Shared::new(name, kind, [], draft.finish().expect("a list")))
        };
        let names = list("names", ListKind::Domains, "shop.example\na\n");
        [names, list("networks", ListKind::Networks, "192.0.2.0/24\n")].into_iter().collect()
    });
    &LISTS
}

/// Check one input: a predicate as JSON, or bytes to make one of and a body behind them.
pub fn check(bytes: &[u8]) {
    let mut made = Unstructured::new(bytes);
    let (predicate, body) = match bytes.first() {
        Some(b'{' | b'[' | b'"') => (serde_json::from_slice(bytes).ok(), BODY),
        _ => (predicate(&mut made, 6).ok(), made.take_rest()),
    };
    let Some(predicate) = predicate else { return };
    let text = serde_json::to_string(&predicate).expect("a predicate is a document");
    let again: Predicate = match serde_json::from_str(&text) {
        Ok(again) => again,
        // The reader's own limit of depth.
        Err(error) => return assert!(error.to_string().contains("recursion"), "{error}: {text}"),
    };
    assert_eq!(again, predicate, "written and read again");
    let plan = plan(&predicate);
    match Test::compile(&predicate, "p", lists()) {
        Ok(test) => check_test(&test, &plan, body),
        Err(faults) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.message.is_empty()), "{text}");
            assert!(Table::build(&plan, lists().clone()).is_err(), "the table takes what the test refuses: {text}");
        }
    }
}

fn check_test(test: &Test, plan: &Plan, body: &[u8]) {
    let table = Table::build(plan, lists().clone()).expect("the table refuses what the test takes");
    for (method, target, host, fields) in REQUESTS {
        let headers: Vec<(String, String)> =
            fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let head = RequestHead::compose(method, target, host, &headers).expect("a good request");
        for client in [None, Some("192.0.2.1"), Some("::ffff:10.0.0.1")] {
            let known = Body::new(json::State::Whole(body));
            let view = View {
                listener: "web",
                sni: client.map(|_| "shop.example"),
                alpn: client.map(|_| "h2"),
                certificate: client.map(|_| &*ALICE),
                port: client.map(|_| 80),
                client: client.map(|text| text.parse().expect("an address")),
                body: Some(&known),
                ..View::of(&head)
            };
            let matches = test.matches(&view);
            assert_eq!(test.refusal(&view).is_none(), matches);
            assert_eq!(table.find(&view, 0), matches.then_some(0), "the index and the test disagree on {target}");
        }
        let request = Request {
            listener: None,
            method: method.to_string(),
            scheme: "http".to_owned(),
            host: host.to_string(),
            target: target.to_string(),
            headers,
            body: str::from_utf8(body).ok().map(str::to_owned),
            user: None,
            client: Some("192.0.2.1:40000".to_owned()),
        };
        let now = Now {
            standing: |_: usize, _: usize, endpoint: &_| Standing::planned(endpoint, State::Up),
            shut: |_| false,
            moment: Moment::default(),
        };
        explain(plan, &table, &request, &now).expect("a request that is one");
    }
}

fn plan(predicate: &Predicate) -> Plan {
    static BASE: OnceLock<Plan> = OnceLock::new();
    let base =
        BASE.get_or_init(|| serde_json::from_str(include_str!("plan.json")).expect("not the plan of this version"));
    let mut plan = base.clone();
    if let Some(matches) = plan.routes.first_mut().and_then(|route| Arc::make_mut(route).matches.as_mut()) {
        matches.predicate = predicate.clone();
    }
    plan
}

/// A predicate of at most this depth.
fn predicate(from: &mut Unstructured<'_>, depth: u32) -> arbitrary::Result<Predicate> {
    let at = Span(u32::from(u8::arbitrary(from)?), u32::from(u8::arbitrary(from)?));
    let kinds = if depth == 0 { 3..=14 } else { 0..=14u8 };
    Ok(match from.int_in_range(kinds)? {
        0 => Predicate::And(several(from, |from| predicate(from, depth - 1))?),
        1 => Predicate::Or(several(from, |from| predicate(from, depth - 1))?),
        2 => Predicate::Not(Box::new(predicate(from, depth - 1)?)),
        3 => Predicate::Constant(bool::arbitrary(from)?),
        4 => Predicate::Compare(Comparison {
            left: operand(from)?,
            operator: operator(from)?,
            right: operand(from)?,
            at,
        }),
        5 => Predicate::In { value: operand(from)?, set: several(from, literal)?, at },
        6 => Predicate::InNetworks { networks: several(from, text)?, at },
        7 => Predicate::Contains { value: operand(from)?, part: operand(from)?, at },
        8 => Predicate::Exists { field: field(from)?, at },
        12 => Predicate::JsonIs { pointer: pointer(from)?, value: Option::<bool>::arbitrary(from)?, at },
        14 => Predicate::DestInList { list: list(from)?, at },
        13 => Predicate::InList { value: operand(from)?, list: list(from)?, at },
        9 => Predicate::StartsWith { value: operand(from)?, prefixes: several(from, text)?, at },
        10 => Predicate::EndsWith { value: operand(from)?, suffixes: several(from, text)?, at },
        _ if bool::arbitrary(from)? => Predicate::Matches { value: operand(from)?, regex: text(from)?, at },
        _ => Predicate::Glob { value: operand(from)?, pattern: text(from)?, at },
    })
}

/// A list that may be there.
fn list(from: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    from.choose(&["names", "networks", "none"]).map(|name| (*name).to_owned())
}

fn several<'a, T>(
    from: &mut Unstructured<'a>,
    mut one: impl FnMut(&mut Unstructured<'a>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let count = from.int_in_range(0..=4u8)?;
    (0..count).map(|_| one(from)).collect()
}

fn operand(from: &mut Unstructured<'_>) -> arbitrary::Result<Operand> {
    Ok(match from.int_in_range(0..=17u8)? {
        0 => Operand::Text(text(from)?),
        1 => Operand::Number(i64::arbitrary(from)?),
        2 => Operand::Host,
        3 => Operand::Path,
        4 => Operand::Method,
        5 => Operand::Scheme,
        6 => Operand::Listener,
        7 => Operand::Port,
        8 => Operand::ClientIp,
        9 => Operand::ClientPort,
        10 => Operand::Field(field(from)?),
        11 => Operand::JsonNumber(pointer(from)?),
        12 => Operand::Sni,
        13 => Operand::Alpn,
        14 => Operand::ClientSubject,
        15 => Operand::ClientNames,
        16 => Operand::ClientFingerprint,
        _ => Operand::Lower(Box::new(operand(from)?)),
    })
}

fn field(from: &mut Unstructured<'_>) -> arbitrary::Result<Field> {
    Ok(match from.int_in_range(0..=3u8)? {
        0 => Field::Header(text(from)?),
        1 => Field::Query(text(from)?),
        2 => Field::Json(pointer(from)?),
        _ => Field::Cookie(text(from)?),
    })
}

fn pointer(from: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    const LIKELY: &[&str] = &["", "/a", "/n", "/q", "/list/0", "/list/1/", "/~1", "/list/-", "/list/00", "/a/~2", "a"];
    if bool::arbitrary(from)? { from.choose(LIKELY).map(|text| (*text).to_owned()) } else { String::arbitrary(from) }
}

fn literal(from: &mut Unstructured<'_>) -> arbitrary::Result<Literal> {
    Ok(if bool::arbitrary(from)? { Literal::Text(text(from)?) } else { Literal::Number(i64::arbitrary(from)?) })
}

fn operator(from: &mut Unstructured<'_>) -> arbitrary::Result<Operator> {
    use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    from.choose(&[Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual]).copied()
}

/// A text that may well be in a request, or any other.
fn text(from: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    const LIKELY: &[&str] = &[
        "",
        "/",
        "/a/",
        "a",
        "shop.example",
        "x-a",
        "q",
        "c",
        "GET",
        "h2",
        "CN=alice,O=Example",
        "DNS:alice.example",
        "10.0.0.0/8",
        "::/0",
        "/**",
        "*.png",
        ".png",
        "^/a",
    ];
    if bool::arbitrary(from)? { from.choose(LIKELY).map(|text| (*text).to_owned()) } else { String::arbitrary(from) }
}
