use super::*;
use serde_json::{Value, json};

fn plan() -> Plan {
    let waits = json!({"tls": 1, "hello": 5000, "head": 1, "body": 1, "write": 1, "rate": 1, "idle": 1, "tunnel": 1});
    let limits = json!({"head": 1, "fields": 1, "uri": 1, "body": null, "body_rate": 0, "write_rate": 0, "connections": null, "connections_per_client": null, "connection_rate": null, "connection_rate_per_client": null, "requests": null, "handshakes": 2048, "streams": 1});
    let listener = |name, bind| {
        json!({"name": name, "bind": [bind], "protocol": "http", "upstream": null, "http": null, "preread": false, "tls": null, "h2c": false, "trusted_proxies": ["10.0.0.0/8"], "proxy_protocol": null, "https_redirect": null,
               "timeouts": waits, "limits": limits, "error_pages": []})
    };
    let route = |name, listeners: Value, predicate: Value, action: Value, filters: Value| {
        let matches = if predicate.is_null() { Value::Null } else { json!({"text": "", "predicate": predicate}) };
        let debug = json!({"exists": {"field": {"header": "x-office"}, "at": [0, 1]}});
        let addons: &[u32] = if name == "api" { &[1, 0] } else { &[] };
        json!({"name": name, "listeners": listeners, "match": matches, "strict": false, "action": action, "filters": filters, "forward_auth": null, "addons": addons,
               "timeouts": {"head": null, "body": null, "total": null}, "limits": {"body": null}, "error_pages": [],
               "mirror": if name == "api" { json!({"upstream": 1, "of_10000": 1050, "when": {"text": "", "predicate": debug}}) } else { Value::Null },
               "maintenance": {"on": false, "except": {"text": "", "predicate": debug}, "retry_after": 1}})
    };
    let addon = |name| {
        json!({"name": name, "id": 1, "hooks": ["request_headers"], "timeout": 1, "on_failure": "deny",
               "concurrency": 1, "queue": 1})
    };
    let split = json!({
        "shares": [{"upstream": 1, "weight": 1}, {"upstream": 0, "weight": 9}], "key": [{"field": {"query": "user"}}],
        "override": {"header": "x-canary", "cookie": null, "values": [["next", 1]]},
    });
    let host = json!({"compare": {"left": "host", "operator": "==", "right": {"text": "b.example"}, "at": [0, 19]}});
    let method = json!({"compare": {"left": "method", "operator": "==", "right": {"text": "GET"}, "at": [0, 15]}});
    let header = json!({"exists": {"field": {"header": "x-debug"}, "at": [20, 41]}});
    let starts = |prefix| json!({"starts_with": {"value": "path", "prefixes": [prefix], "at": [0, 25]}});
    let endpoint = |address, weight| json!({"address": address, "weight": weight, "priority": 0, "max_connections": null, "slow_start": null, "admin": "ready"});
    let upstream = |name| {
        json!({
            "name": name, "balance": "p2c", "host": "keep", "proxy_protocol": null, "protocol": "http1", "tls": null, "queue": null, "affinity": null, "health_check": null, "parent": null, "outlier": null,
            "retry": {"attempts": 1, "per_try_timeout": null, "on": [], "least_pause": 1, "most_pause": 1, "buffer": 1},
            "endpoints": [endpoint("10.0.0.1:9000", 1), endpoint("10.0.0.2:9000", 0), endpoint("10.0.0.3:9000", 2)],
            "timeouts": {"connect": 1, "head": 1, "body": 1, "write": 1, "idle": 1},
            "limits": {"head": 1, "fields": 1, "interim": 1, "streams": 1, "idle_connections": 1, "connections": null, "pending": null, "requests": null},
        })
    };
    let plan = json!({
        "version": 1,
        "engine": {"workers": 1, "drain_timeout": 1, "watchdog": 0, "memory": 0},
        "dns": {"servers": [], "prefer": "ipv4"},
        "listeners": [listener("web", ":8080"), listener("local", "unix:/run/p.sock")],
        "lists": [], "upstreams": [upstream("shop"), upstream("next")],
        "routes": [
            route("other", json!([1]), json!({"constant": false}), json!({"upstream": 0}), json!([])),
            route("host", Value::Null, host.clone(), json!({"upstream": 0}), json!([])),
            route("debug", Value::Null, json!({"and": [method.clone(), header.clone()]}), json!({"upstream": 0}), json!([])),
            route("either", Value::Null, json!({"or": [host, header]}), json!({"upstream": 0}), json!([])),
            route("not", Value::Null, json!({"not": method}), json!({"respond": {"status": 405, "headers": [], "body": []}}), json!([])),
            route("api", Value::Null, starts("/api/"), json!({"split": split}), json!([
                {"strip_prefix": "/api"}, {"set_query": [["v", "2"]]}, {"set_request_header": [["x-a", "2"]]},
                {"add_response_header": [["x-b", "1"]]}, {"remove_request_header": ["x-none"]},
            ])),
            route("old", Value::Null, starts("/old/"), json!({"redirect": {"to": [{"text": "/new"}], "status": 308}}), json!([])),
        ],
        "error_pages": [],
        "addons": [addon("stamp"), addon("auth")],
        "access_log": null,
    });
    serde_json::from_value(plan).unwrap()
}

fn ask(request: Value) -> Value {
    ask_of(&plan(), None, request)
}

/// While the route of this index is in maintenance.
fn ask_of(plan: &Plan, shut: Option<usize>, request: Value) -> Value {
    let mut whole = json!({"listener": null, "method": "GET", "scheme": "http", "host": "a.example:80", "target": "/",
                           "headers": [], "client": "192.0.2.1:40000"});
    whole.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
    let table = Table::build(plan, Lists::default()).unwrap();
    let standing = |upstream, endpoint, plan: &_| {
        let planned = Standing::planned(plan, if endpoint == 0 { State::Down } else { State::Up });
        // An order, at one upstream alone.
        if (upstream, endpoint) == (1, 2) {
            Standing { admin: AdminState::Draining, weight: 9, ..planned }
        } else {
            planned
        }
    };
    let shut = |route| shut == Some(route);
    let answer = explain(
        plan,
        &table,
        &serde_json::from_value(whole).unwrap(),
        &Now { standing, shut, moment: crate::forward::Moment::default() },
    );
    answer.map_or_else(|fault| json!(fault.to_string()), |answer| serde_json::to_value(answer).unwrap())
}

#[test]
fn the_whole_way_is_told() {
    let answer = ask(json!({"target": "/%61pi/x?q=1", "headers": [["X-A", "1"], ["Connection", "close"]]}));
    let passed = |index: usize, name: &str, at: Value, found: Value| json!({"index": index, "name": name, "why": "match", "at": at, "found": found});
    let choice = |name: &str, weight: u32| {
        let (of_last, admin) = if name == "next" { (9, "draining") } else { (2, "ready") };
        json!({"name": name, "weight": weight, "balance": "p2c", "endpoints": [
            {"address": "10.0.0.1:9000", "weight": 1, "admin": "ready", "state": "down", "eligible": false},
            {"address": "10.0.0.2:9000", "weight": 0, "admin": "ready", "state": "up", "eligible": false},
            {"address": "10.0.0.3:9000", "weight": of_last, "admin": admin, "state": "up", "eligible": admin == "ready"},
        ]})
    };
    let forwarded = |upstream: &str, host: &str| {
        json!({
            "upstream": upstream, "method": "GET", "host": host, "target": "/x?q=1&v=2",
            "headers": [["x-a", "2"], ["x-forwarded-for", "192.0.2.1"], ["x-forwarded-proto", "http"],
                        ["x-forwarded-port", "8080"], ["x-forwarded-host", "a.example:80"], ["via", "1.1 penstock"]],
        })
    };
    let expected = json!({
        "listener": "web",
        "request": {"method": "GET", "scheme": "http", "host": "a.example", "path": "/api/x", "query": "q=1"},
        "route": {"index": 5, "name": "api"},
        "rule": null,
        "action": "split",
        "throttle": null,
        "status": null,
        "refused": null,
        "maintenance": null,
        "lists": [], "passed_over": [
            {"index": 0, "name": "other", "why": "listener"},
            passed(1, "host", json!([0, 19]), json!("a.example")),
            passed(2, "debug", json!([20, 41]), Value::Null),
            passed(3, "either", json!([0, 41]), Value::Null),
            passed(4, "not", json!([0, 15]), json!("GET")),
        ],
        "filters": [
            {"name": "strip_prefix", "effect": "/api/x -> /x"},
            {"name": "set_query", "effect": "?q=1 -> ?q=1&v=2"},
            {"name": "set_request_header", "effect": "-X-A: 1, +x-a: 2"},
            {"name": "add_response_header", "effect": "on the response: +x-b: 1"},
            {"name": "remove_request_header", "effect": "changes nothing"},
        ],
        "forward_auth": null,
        "addons": ["auth", "stamp"],
        "forwarded": [forwarded("next", "a.example:80"), forwarded("shop", "a.example:80")],
        "share": {"name": null, "why": "drawn"},
        "mirror": {"upstream": "next", "percent": 10.5, "eligible": false},
        "upstreams": [choice("next", 1), choice("shop", 9)],
    });
    assert_eq!(answer, expected);
}

#[test]
fn a_split_says_which_share_and_why() {
    for (target, canary, name, why) in [
        ("/api/?user=1", "next", "next", "header"),
        ("/api/?user=1", "", "shop", "key"),
        ("/api/?user=8", "x", "next", "key"),
    ] {
        let answer = ask(json!({"target": target, "headers": [["X-Canary", canary]]}));
        assert_eq!(answer["share"], json!({"name": name, "why": why}), "{target} {canary}");
    }
    assert_eq!(ask(json!({"target": "/old/x"}))["share"], Value::Null);
}

#[test]
fn answers_without_an_endpoint_have_a_status() {
    for (request, action, status, refused) in [
        (json!({"target": "/old/x"}), json!("redirect"), 308, Value::Null),
        (json!({"method": "PUT"}), json!("respond"), 405, Value::Null),
        (json!({}), Value::Null, 404, Value::Null),
        (json!({"method": "OPTIONS", "target": "*"}), Value::Null, 204, Value::Null),
        (json!({"target": "/../x"}), Value::Null, 400, json!("bad_uri")),
        (json!({"host": "a b"}), Value::Null, 400, json!("bad_host")),
    ] {
        let answer = ask(request.clone());
        assert_eq!(
            (&answer["action"], &answer["status"], &answer["refused"]),
            (&action, &json!(status), &refused),
            "{request}"
        );
        assert_eq!((&answer["forwarded"], &answer["upstreams"]), (&json!([]), &json!([])));
    }
}

#[test]
fn who_comes_without_tls_is_sent_there() {
    let mut plan = plan();
    plan.listeners[0].https_redirect = Some(penstock_plan::HttpsRedirect { status: 307, port: 443 });
    let behind =
        |scheme: &str| json!({"client": "10.0.0.9", "headers": [["X-Forwarded-Proto", scheme]], "target": "/old/x"});
    for (request, action, status) in [
        (json!({"target": "/old/x"}), "https_redirect", 307),
        (json!({"target": "/old/x", "scheme": "https"}), "redirect", 308),
        (behind("https"), "redirect", 308),
        (behind("http"), "https_redirect", 307),
    ] {
        let answer = ask_of(&plan, None, request.clone());
        assert_eq!((&answer["action"], &answer["status"]), (&json!(action), &json!(status)), "{request}");
    }
}

#[test]
fn what_becomes_of_a_response_is_told() {
    let effects = |scheme| {
        let filters = [
            json!({"map_location": [{"from": "/", "to": "/app"}]}),
            json!({"edit_cookies": {"names": ["a"], "domain": null, "path": null, "secure": true, "http_only": null, "same_site": null}}),
            json!({"hsts": {"max_age": 60, "include_subdomains": false, "preload": false, "replace": false}}),
        ];
        let filters: Vec<Filter> = filters.into_iter().map(|filter| serde_json::from_value(filter).unwrap()).collect();
        let mut head = RequestHead::compose("GET", "/", "a.example", &[]).unwrap();
        let mut effects = Vec::new();
        run_filters(&filters, &mut head, scheme, &mut effects).unwrap();
        effects.into_iter().map(|effect| effect.effect).collect::<Vec<_>>()
    };
    let mapped = ["on the response: location: / -> /app", "on the response: attributes of the cookies a"];
    assert_eq!(effects("http"), [&mapped[..], &["changes nothing"]].concat());
    let said = "on the response: +strict-transport-security: max-age=60";
    assert_eq!(effects("https"), [&mapped[..], &[said]].concat());
}

#[test]
fn maintenance_refuses_all_but_the_excepted_and_tells_the_rest_of_the_way() {
    let of = |shut, headers: Value| {
        let answer = ask_of(&plan(), shut, json!({"target": "/api/x", "headers": headers}));
        (
            answer["maintenance"].clone(),
            answer["status"].clone(),
            answer["refused"].clone(),
            answer["forwarded"][0]["target"].clone(),
        )
    };
    let way = json!("/x?v=2");
    assert_eq!(of(Some(5), json!([])), (json!("refused"), json!(503), json!("maintenance"), way.clone()));
    assert_eq!(of(Some(5), json!([["X-Office", "1"]])), (json!("excepted"), Value::Null, Value::Null, way.clone()));
    assert_eq!(of(Some(4), json!([])), (Value::Null, Value::Null, Value::Null, way));
}

#[test]
fn a_copy_is_told_of() {
    let of = |headers: Value| ask(json!({"target": "/api/x", "headers": headers}))["mirror"]["eligible"].clone();
    assert_eq!((of(json!([])), of(json!([["X-Office", "1"]]))), (json!(false), json!(true)));
    assert_eq!(ask(json!({"target": "/old/x"}))["mirror"], Value::Null);
}

#[test]
fn what_a_service_would_be_asked_is_told_and_what_it_alone_may_say_is_gone() {
    let mut plan = plan();
    let auth = penstock_plan::ForwardAuth {
        upstream: 0,
        path: "/verify".into(),
        copy_headers: vec!["remote-user".into()],
        timeout: std::time::Duration::from_secs(5),
    };
    std::sync::Arc::make_mut(&mut plan.routes[5]).forward_auth = Some(Box::new(auth));
    let answer = ask_of(&plan, None, json!({"target": "/api/x", "headers": [["Remote-User", "root"], ["X-B", "1"]]}));
    let upstream = &plan.upstreams[0].name;
    assert_eq!(answer["forward_auth"], json!({"upstream": upstream, "target": "/verify", "copied": ["remote-user"]}));
    let fields = answer["forwarded"][0]["headers"].to_string().to_lowercase();
    assert!(fields.contains("x-b") && !fields.contains("remote-user"), "{fields}");
}

#[test]
fn questions_that_make_no_sense_are_faults() {
    assert_eq!(ask(json!({"listener": "x"})), "listener: no such listener; there are: web, local");
    assert_eq!(ask(json!({"client": "x"})), "client: \"x\" is not an address such as \"192.0.2.1:40000\"");
}
