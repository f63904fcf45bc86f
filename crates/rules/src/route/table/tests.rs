use super::super::json;
use super::*;

use crate::http::RequestHead;
use penstock_plan::{
    Comparison, Engine, Field, Literal, Maintenance, Match, Operand, Operator, Predicate, Respond, Span, Template,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

const AT: Span = Span(0, 1);

fn equal(value: Operand, text: &str) -> Predicate {
    Predicate::Compare(Comparison { left: value, operator: Operator::Equal, right: Operand::Text(text.into()), at: AT })
}

fn starts(prefix: &str) -> Predicate {
    Predicate::StartsWith { value: Operand::Path, prefixes: vec![prefix.into()], at: AT }
}

fn plan(routes: Vec<(Option<Vec<u32>>, Option<Predicate>)>) -> Plan {
    let listener = |name: &str| {
        let text = format!(
            r#"{{"name":"{name}","bind":[":8080"],"protocol":"http","upstream":null,"http":null,"preread":false,"tls":null,"h2c":false,"trusted_proxies":[],"proxy_protocol":null,"https_redirect":null,
            "timeouts":{{"tls":1,"hello":5000,"head":1,"body":1,"write":1,"rate":1,"idle":1,"tunnel":1}},
            "limits":{{"head":1,"fields":1,"uri":1,"body":null,"body_rate":0,"write_rate":0,"connections":null,"connections_per_client":null,"connection_rate":null,"connection_rate_per_client":null,"requests":null,"handshakes":2048,"streams":1}},"capture":null,"error_pages":[]}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let route = |(at, (listeners, predicate)): (usize, (_, Option<Predicate>))| Route {
        name: format!("route-{at}"),
        listeners,
        matches: predicate.map(|predicate| Match { text: String::new(), predicate }),
        strict: false,
        action: Action::Respond(Respond { status: 200, headers: vec![], body: Template::default() }),
        filters: vec![],
        forward_auth: None,
        addons: vec![],
        timeouts: Default::default(),
        limits: Default::default(),
        error_pages: vec![],
        mirror: None,
        maintenance: Maintenance { on: false, except: None, retry_after: Duration::ZERO },
    };
    Plan {
        version: 1,
        error_pages: vec![],
        engine: Engine { workers: 1, drain_timeout: Duration::ZERO, watchdog: Duration::ZERO, memory: None },
        listeners: vec![listener("web"), listener("other")],
        upstreams: vec![],
        lists: vec![],
        routes: routes.into_iter().enumerate().map(route).map(Arc::new).collect(),
        addons: vec![],
        access_log: None,
        dns: penstock_plan::Dns::default(),
    }
}

fn head(host: &str, target: &str) -> RequestHead {
    RequestHead::compose("GET", target, host, &[("x-a".into(), "1".into())]).unwrap()
}

fn view(head: &RequestHead) -> View<'_> {
    View { listener: "web", port: Some(8080), ..View::of(head) }
}

/// Every route in order, as the documentation says it.
fn scan(plan: &Plan, view: &View<'_>, listener: u32) -> Option<usize> {
    plan.routes.iter().position(|route| {
        route.listeners.as_ref().is_none_or(|listeners| listeners.contains(&listener))
            && route
                .matches
                .as_ref()
                .is_none_or(|matches| Test::compile(&matches.predicate, "", &Lists::default()).unwrap().matches(view))
    })
}

#[test]
fn the_first_match_in_plan_order_wins() {
    let plan = plan(vec![
        (Some(vec![1]), None),
        (None, Some(Predicate::And(vec![equal(Operand::Host, "a.example"), starts("/x/")]))),
        (None, Some(starts("/x/y/"))),
        (None, Some(equal(Operand::Path, "/x/y/z"))),
        (None, Some(equal(Operand::Host, "b.example"))),
        (None, None),
    ]);
    let table = Table::build(&plan, Lists::default()).unwrap();
    for (host, path, expected) in [
        ("a.example", "/x/y/z", 1),
        ("b.example", "/x/y/z", 2),
        ("b.example", "/x", 4),
        ("c.example", "/x/y/", 2),
        ("c.example", "/x/yz", 5),
    ] {
        let head = head(host, path);
        assert_eq!(table.find(&view(&head), 0), Some(expected), "{host} {path}");
        assert_eq!(table.find(&view(&head), 1), Some(0), "{host} {path}");
    }
}

#[test]
fn a_path_whose_readings_take_different_routes_is_refused() {
    let admin = Predicate::Or(vec![equal(Operand::Path, "/admin"), starts("/admin/")]);
    let table = Table::build(&plan(vec![(None, Some(admin)), (None, None)]), Lists::default()).unwrap();
    for (path, expected) in [
        ("/admin", Ok(Some(0))),
        ("/admin/a;b/c%2Fd", Ok(Some(0))),
        ("/a;b/c%2Fd", Ok(Some(1))),
        ("/admin;x", Err(Kind::BadUri)),
        ("/admin%2f", Err(Kind::BadUri)),
        ("/%2Fadmin", Err(Kind::BadUri)),
        ("/;x/admin", Err(Kind::BadUri)),
    ] {
        let head = head("a.example", path);
        assert_eq!(table.choose(&view(&head), 0), expected, "{path}");
    }
    let only = Table::build(&plan(vec![(None, None)]), Lists::default()).unwrap();
    assert_eq!(only.choose(&view(&head("a.example", "/admin;x%2Fy")), 0), Ok(Some(0)));
}

#[test]
fn all_faults_of_all_routes_are_told() {
    let wrong = |regex: &str| Predicate::Matches { value: Operand::Path, regex: regex.into(), at: AT };
    let mut plan = plan(vec![
        (Some(vec![0, 7]), None),
        (None, Some(Predicate::And(vec![wrong("("), wrong(r"(\w{1000}){1000}")]))),
        (None, Some(Predicate::InNetworks { networks: vec!["10.0.0.0/40".into()], at: AT })),
        (None, Some((0..100).fold(Predicate::Constant(true), |inside, _| Predicate::Not(Box::new(inside))))),
        (None, Some(equal(Operand::Port, "80"))),
    ]);
    Arc::make_mut(&mut plan.routes[4]).action = Action::Upstream(3);
    let faults = Table::build(&plan, Lists::default()).unwrap_err();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "routes[0].listeners[1]: names no listener",
            "routes[1].match: regular expression: unclosed group",
            "routes[1].match: regular expression: larger than 1048576 bytes when compiled",
            "routes[2].match: \"10.0.0.0/40\" is neither an address nor a network such as \"10.0.0.0/8\"",
            "routes[3].match: nested deeper than 64 levels",
            "routes[4].action.upstream: names no upstream",
            "routes[4].match: compares a text with a number",
        ]
    );
}

#[test]
fn ten_thousand_routes_are_built_and_searched_quickly() {
    let both = |host: String, path: &str| Predicate::And(vec![equal(Operand::Host, &host), starts(path)]);
    let mut routes: Vec<_> = (0..10_000)
        .map(|n| (None, Some(both(format!("h{}.example", n / 2), if n % 2 == 0 { "/a/" } else { "/" }))))
        .collect();
    routes.push((None, None));
    let plan = plan(routes);
    let start = Instant::now();
    let table = Table::build(&plan, Lists::default()).unwrap();
    // Generous, because this is not a release build: it catches what grows with the square.
    assert!(start.elapsed() < Duration::from_secs(2));
    for (host, path, expected) in
        [("h4321.example", "/a/b", 8642), ("h4321.example", "/b", 8643), ("none.example", "/a/", 10_000)]
    {
        let (head, mut tests) = (head(host, path), 0);
        assert_eq!(table.search(&view(&head), 0, || tests += 1), Some(expected));
        assert_eq!(tests, 0, "host and prefix decide alone");
    }
}

#[test]
fn only_routes_whose_host_and_path_fit_are_tested() {
    let header = || Operand::Field(Field::Header("x-a".into()));
    let routes = (0..1000).map(|n| {
        let parts = vec![equal(header(), "2"), equal(Operand::Host, "a.example"), starts(&format!("/r{n}/"))];
        (None, Some(Predicate::And(parts)))
    });
    let table = Table::build(&plan(routes.collect()), Lists::default()).unwrap();
    let (head, mut tests) = (head("a.example", "/r17/x"), 0);
    assert_eq!(table.search(&view(&head), 0, || tests += 1), None);
    assert_eq!(tests, 1);
}

#[test]
#[ignore = "prints figures; run with --release --ignored --nocapture"]
fn figures() {
    let both = |host: String, path: String| Predicate::And(vec![equal(Operand::Host, &host), starts(&path)]);
    for (name, count, spread) in [("1 host", 1_000, 1), ("1 host", 10_000, 1), ("n/4 hosts", 10_000, 2500)] {
        let routes = (0..count).map(|n| (None, Some(both(format!("h{}.example", n % spread), format!("/route-{n}/")))));
        let plan = plan(routes.collect());
        let start = Instant::now();
        let table = Table::build(&plan, Lists::default()).unwrap();
        let built = start.elapsed();
        let heads: Vec<_> = (0..1000)
            .map(|n| n * 7919 % count)
            .map(|n| head(&format!("h{}.example", n % spread), &format!("/route-{n}/x")))
            .collect();
        let start = Instant::now();
        for _ in 0..1000 {
            for head in &heads {
                std::hint::black_box(table.find(&view(head), 0));
            }
        }
        println!("{count} routes, {name}: built in {built:?}, found in {:?}", start.elapsed() / 1_000_000);
    }
}

fn predicates() -> impl Strategy<Value = Predicate> {
    let host = || prop::sample::select(vec!["a", "b", "c", ""]);
    let path = || prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "", "/ab"]);
    let leaf = prop_oneof![
        host().prop_map(|text| equal(Operand::Host, text)),
        host().prop_map(|text| equal(Operand::Lower(Box::new(Operand::Host)), text)),
        prop::collection::vec(host(), 0..3).prop_map(|set| Predicate::In {
            value: Operand::Host,
            set: set.into_iter().map(|text| Literal::Text(text.into())).collect(),
            at: AT
        }),
        path().prop_map(|text| equal(Operand::Path, text)),
        prop::collection::vec(path(), 0..10).prop_map(|set| Predicate::In {
            value: Operand::Path,
            set: set.into_iter().map(|text| Literal::Text(text.into())).collect(),
            at: AT
        }),
        prop::collection::vec(path(), 0..3).prop_map(|prefixes| Predicate::StartsWith {
            value: Operand::Path,
            prefixes: prefixes.into_iter().map(String::from).collect(),
            at: AT
        }),
        "(/a|/b|/|\\*|\\?|\\*\\*){0,4}".prop_map(|pattern| Predicate::Glob { value: Operand::Path, pattern, at: AT }),
        any::<bool>().prop_map(Predicate::Constant),
        Just(equal(Operand::Field(Field::Header("x-a".into())), "1")),
        Just(equal(Operand::Field(Field::Query("q".into())), "1")),
    ];
    leaf.prop_recursive(3, 12, 3, |inside| {
        prop_oneof![
            prop::collection::vec(inside.clone(), 0..4).prop_map(Predicate::And),
            prop::collection::vec(inside.clone(), 0..4).prop_map(Predicate::Or),
            inside.prop_map(|part| Predicate::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_index_never_changes_the_answer(
        routes in prop::collection::vec((prop::option::of(prop::collection::vec(0u32..2, 0..2)), prop::option::weighted(0.9, predicates())), 0..12),
        filler in prop::sample::select(vec![0, 40]),
        requests in prop::collection::vec((prop::sample::select(vec!["a", "b", "d"]), "(/a|/b|/ab|/c|/){1,3}(\\?q=[12])?"), 8),
    ) {
        // Enough prefixes of the same lengths to be hashed rather than searched.
        let filler = (0..filler).map(|n| (None, Some(starts(&format!("/filler-{n}/")))));
        let plan = plan(filler.chain(routes).collect());
        let table = Table::build(&plan, Lists::default()).unwrap();
        for (host, target) in &requests {
            let head = head(host, target);
            for listener in 0..2 {
                prop_assert_eq!(table.find(&view(&head), listener), scan(&plan, &view(&head), listener), "{} {}", host, target);
            }
        }
    }

    #[test]
    fn what_two_parts_need_is_combined(
        prefixes in prop::collection::vec(prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/b"]), 1..3),
        more in prop::collection::vec(prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/b"]), 1..3),
        exact in prop::option::of(prop::sample::select(vec!["/", "/a", "/a/b", "/b"])),
    ) {
        let starts = |prefixes: Vec<&str>| Predicate::StartsWith {
            value: Operand::Path,
            prefixes: prefixes.into_iter().map(String::from).collect(),
            at: AT,
        };
        let mut parts = vec![starts(prefixes), starts(more)];
        parts.extend(exact.map(|path| equal(Operand::Path, path)));
        let plan = plan(vec![(None, Some(Predicate::And(parts)))]);
        let table = Table::build(&plan, Lists::default()).unwrap();
        for path in ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/c"] {
            let head = head("a", path);
            prop_assert_eq!(table.find(&view(&head), 0), scan(&plan, &view(&head), 0), "{}", path);
        }
    }
}

#[test]
fn a_strict_route_refuses_what_it_cannot_ask() {
    let value = Operand::Field(Field::Json("/plan".into()));
    let mut plan = plan(vec![
        (None, Some(Predicate::And(vec![starts("/orders"), equal(value.clone(), "pro")]))),
        (None, Some(Predicate::And(vec![starts("/orders"), equal(value, "free")]))),
        (None, None),
    ]);
    Arc::make_mut(&mut plan.routes[1]).strict = true;
    let table = Table::build(&plan, Lists::default()).unwrap();
    assert!(table.asks_body());
    let find = |path: &str, state: json::State<'_>| {
        let (head, body) = (head("a", path), json::Body::new(state));
        let found = table.find(&View { body: Some(&body), ..view(&head) }, 0).unwrap();
        (found, body.refusal(found), body.is_wanted())
    };
    let whole = json::State::Whole;
    assert_eq!(find("/other", json::State::Unread), (2, None, false));
    assert_eq!(find("/orders", json::State::Unread), (2, None, true));
    assert_eq!(find("/orders", whole(br#"{"plan": "pro"}"#)), (0, None, false));
    assert_eq!(find("/orders", whole(br#"{"plan": "free"}"#)), (1, None, false));
    assert_eq!(find("/orders", whole(br#"{"plan": "other"}"#)), (2, None, false));
    assert_eq!(find("/orders", whole(b"{}")), (2, None, false));
    assert_eq!(find("/orders", whole(b"{")), (1, Some(crate::error::Kind::BadJson), false));
    assert_eq!(find("/orders", whole(br#"{"plan": 1}"#)), (1, Some(crate::error::Kind::BadJson), false));
    assert_eq!(find("/orders", json::State::TooLarge), (1, Some(crate::error::Kind::BodyTooLarge), false));
}
