use super::*;
use penstock_plan::{PrefixChange, Rewrite};
use proptest::prelude::*;

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn build(filters: &[Filter]) -> Filters {
    Filters::build(filters, 0).unwrap()
}

fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHead {
    RequestHead::compose(method, target, "a.example", &pairs(fields)).unwrap()
}

/// The target after the filters, or the word of the failure.
fn target(filters: &[Filter], target: &str) -> String {
    let mut head = request("GET", target, &[]);
    match build(filters).on_request(&mut head) {
        Ok(_) => head.query().map_or_else(|| head.path().to_owned(), |query| format!("{}?{query}", head.path())),
        Err(kind) => kind.word().to_owned(),
    }
}

fn lines(fields: &Fields) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|field| format!("{}: {}", text(field.name), text(field.value))).collect()
}

#[test]
fn headers_change_in_the_order_written() {
    let filters = build(&[
        Filter::SetRequestHeader(pairs(&[("x-a", "1")])),
        Filter::AddRequestHeader(pairs(&[("x-a", "2"), ("x-b", "3")])),
        Filter::RemoveRequestHeader(vec!["x-c".into()]),
        Filter::SetResponseHeader(pairs(&[("server", "x")])),
    ]);
    let mut head = request("GET", "/", &[("X-A", "0"), ("X-C", "0")]);
    assert!(filters.on_request(&mut head).unwrap().is_none());
    assert_eq!(lines(&head.fields), ["host: a.example", "x-a: 1", "x-a: 2", "x-b: 3"]);
    assert!(filters.has_response());
    let mut fields = Fields::default();
    fields.push("Server", "y");
    filters.on_response(&Asked { head: &head, scheme: "http", host: None }, &mut fields);
    assert_eq!(lines(&fields), ["server: x"]);
    assert!(!build(&[Filter::StripPrefix("/a".into())]).has_response());
}

#[test]
fn prefixes_are_whole_segments() {
    let strip = |prefix: &str| Filter::StripPrefix(prefix.into());
    let replace = |from: &str, to: &str| Filter::ReplacePrefix(PrefixChange { from: from.into(), to: to.into() });
    let long = format!("/api/{}", "x".repeat(1000));
    for (filter, before, after) in [
        (strip("/api"), "/api/x?q=1", "/x?q=1"),
        (strip("/api"), "/api", "/"),
        (strip("/api/"), "/api/", "/"),
        (strip("/api/"), "/api/x/", "/x/"),
        (strip("/api"), "/apix", "/apix"),
        (strip("/api"), "/x/api", "/x/api"),
        (strip("/"), "/x", "/x"),
        (strip("/%61pi"), "/api/x", "/x"),
        (strip("/api"), &*long, &long[4..]),
        (Filter::AddPrefix("/v1/".into()), "/x", "/v1/x"),
        (Filter::AddPrefix("/v1".into()), "/", "/v1/"),
        (Filter::AddPrefix("/".into()), "/x", "/x"),
        (replace("/a/b", "/c"), "/a/b/d", "/c/d"),
        (replace("/a/b", "/c"), "/a/b", "/c"),
        (replace("/a", "/"), "/a/b", "/b"),
        (replace("/", "/c"), "/a", "/c/a"),
    ] {
        assert_eq!(target(std::slice::from_ref(&filter), before), after, "{filter:?} {before}");
    }
    assert_eq!(target(&[strip("/a"), strip("/b"), Filter::AddPrefix("/c".into())], "/a/b/d"), "/c/d");
}

#[test]
fn rewrites_end_canonical_or_nowhere() {
    for (regex, to, before, after) in [
        ("^/users/([0-9]+)$", "/u?id=$1", "/users/7", "/u%3Fid=7"),
        ("^/old/", "", "/old/x?q=1", "/x?q=1"),
        ("b", "c", "/abab", "/acac"),
        ("x", "y", "/a", "/a"),
        ("/a", "/a/..", "/a/b", "/b"),
        ("/a", "/../..", "/a/b", "bad_rewrite"),
        ("a", "%", "/a", "bad_rewrite"),
        ("a", "\u{0}", "/a", "bad_rewrite"),
        ("a", "é #", "/a", "/%C3%A9%20%23"),
        ("", &*"x".repeat(10_000), "/aaaaaaaaaa", "bad_rewrite"),
        ("(?P<n>a)", "${n}${n}", "/a", "/aa"),
    ] {
        let filter = Filter::RewritePath(Rewrite { regex: regex.into(), to: to.into() });
        assert_eq!(target(&[filter], before), after, "{regex} {to}");
    }
}

#[test]
fn queries_keep_what_is_not_named() {
    let set = |parameters: &[(&str, &str)]| Filter::SetQuery(pairs(parameters));
    let remove = |names: &[&str]| Filter::RemoveQuery(names.iter().map(|name| (*name).to_owned()).collect());
    for (filter, before, after) in [
        (set(&[("a", "1")]), "/", "/?a=1"),
        (set(&[("a", "1")]), "/?", "/?a=1"),
        (set(&[("a", "1")]), "/?b=%41&a=2&c&a=3", "/?b=%41&a=1&c"),
        (set(&[("a", "1"), ("b b", "x&y=ü")]), "/?b+b=0", "/?b%20b=x%26y%3D%C3%BC&a=1"),
        (remove(&["a"]), "/?a=1", "/"),
        (remove(&["a"]), "/?a=1&%61=2&b=3&&c", "/?b=3&&c"),
        (remove(&["a", "b"]), "/?b&a", "/"),
        (remove(&["x"]), "/?a=1&&", "/?a=1&&"),
        (remove(&["x"]), "/", "/"),
    ] {
        assert_eq!(target(std::slice::from_ref(&filter), before), after, "{filter:?} {before}");
    }
}

#[test]
fn the_server_itself_has_no_path_to_change() {
    let filters = build(&[
        Filter::AddPrefix("/v1".into()),
        Filter::RewritePath(Rewrite { regex: ".*".into(), to: "/x".into() }),
        Filter::SetQuery(pairs(&[("a", "1")])),
        Filter::StripPrefix("/".into()),
    ]);
    let mut head = request("OPTIONS", "*", &[]);
    assert!(filters.on_request(&mut head).unwrap().is_none());
    assert_eq!((head.path(), head.query()), ("*", None));
}

#[test]
fn faults_name_the_filter() {
    let cors = |origins: &[&str], credentials| Filter::Cors(penstock_plan::Cors { credentials, ..policy(origins) });
    let filters = [
        Filter::SetRequestHeader(pairs(&[("content-length", "1")])),
        Filter::AddResponseHeader(pairs(&[("x-a", "1\r\nx: y")])),
        Filter::RemoveRequestHeader(vec!["host".into()]),
        Filter::SetRequestHeader(pairs(&[("a b", "1")])),
        Filter::StripPrefix("api".into()),
        Filter::RewritePath(Rewrite { regex: "(".into(), to: String::new() }),
        Filter::SetRequestHeader(pairs(&[("x-forwarded-for", "1")])),
        cors(&["*"], true),
        cors(&["*", "https://a.example"], false),
        Filter::RemoveRequestHeader(vec!["origin".into()]),
        Filter::AddPrefix("/ok".into()),
    ];
    let faults = Filters::build(&filters, 3).unwrap_err();
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    let expected: Vec<_> = (0..10).map(|at| format!("routes[3].filters[{at}]")).collect();
    assert_eq!(paths, expected);
}

fn policy(origins: &[&str]) -> penstock_plan::Cors {
    penstock_plan::Cors {
        origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        methods: vec!["GET".into(), "PUT".into()],
        headers: vec![],
        expose: vec!["x-total".into()],
        credentials: false,
        max_age: 600,
    }
}

fn preflight(policy: penstock_plan::Cors, fields: &[(&str, &str)]) -> Option<Vec<String>> {
    let answer = build(&[Filter::Cors(policy)]).on_request(&mut request("OPTIONS", "/", fields)).unwrap()?;
    assert_eq!(answer.status, 204);
    Some(lines(&answer.fields))
}

#[test]
fn preflights_are_answered() {
    let asked = |origin| {
        [("Origin", origin), ("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "x-a, x-b")]
    };
    let named = penstock_plan::Cors {
        credentials: true,
        headers: vec!["x-a".into()],
        ..policy(&["https://a.example", "https://b.example"])
    };
    assert_eq!(
        preflight(named.clone(), &asked("https://b.example")).unwrap(),
        [
            "access-control-allow-origin: https://b.example",
            "access-control-allow-credentials: true",
            "vary: Origin",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: x-a",
            "access-control-max-age: 600",
        ]
    );
    assert_eq!(preflight(named.clone(), &asked("https://c.example")).unwrap(), ["vary: Origin"]);
    assert_eq!(
        preflight(policy(&["*"]), &asked("https://c.example")).unwrap(),
        [
            "access-control-allow-origin: *",
            "vary: Access-Control-Request-Headers",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: x-a, x-b",
            "access-control-max-age: 600",
        ]
    );
    // No preflight: OPTIONS that the endpoint answers.
    assert_eq!(preflight(named, &asked("https://b.example")[..1]), None);
}

#[test]
fn actual_responses_get_their_fields_in_place_of_the_endpoints_own() {
    let answer = |policy: penstock_plan::Cors, origin: Option<&str>, own: &[(&str, &str)]| {
        let mut fields = Fields::default();
        own.iter().for_each(|(name, value)| fields.push(name, value));
        let origin: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        let head = request("GET", "/", &origin);
        build(&[Filter::Cors(policy)]).on_response(&Asked { head: &head, scheme: "http", host: None }, &mut fields);
        lines(&fields)
    };
    let own = [("Access-Control-Allow-Origin", "evil"), ("Vary", "accept, ORIGIN"), ("x", "1")];
    let named = || policy(&["https://a.example"]);
    assert_eq!(
        answer(named(), Some("https://a.example"), &own),
        [
            "Vary: accept, ORIGIN",
            "x: 1",
            "access-control-allow-origin: https://a.example",
            "access-control-expose-headers: x-total",
        ]
    );
    assert_eq!(answer(named(), Some("https://c.example"), &own), ["Vary: accept, ORIGIN", "x: 1"]);
    assert_eq!(answer(named(), None, &[("vary", "accept")]), ["vary: accept", "vary: Origin"]);
    assert_eq!(
        answer(policy(&["*"]), None, &[]),
        ["access-control-allow-origin: *", "access-control-expose-headers: x-total"]
    );
}

proptest! {
    #[test]
    fn filtered_paths_stay_canonical(
        path in "/([a.b/;]|%2[eEfF]|%61){0,12}",
        from in "/[ab]{0,1}(/[ab])?/?",
        to in "/([ab.]|%2f){0,3}(/[ab])?/?",
        regex in prop::sample::select(vec!["a", "/", ".", "%2F", "^/a/?", "[.]"]),
        with in "[a/.?%2]{0,4}",
    ) {
        let filters = [
            Filter::ReplacePrefix(PrefixChange { from: from.clone(), to: to.clone() }),
            Filter::AddPrefix(to),
            Filter::StripPrefix(from),
            Filter::RewritePath(Rewrite { regex: regex.to_owned(), to: with }),
        ];
        let Ok(mut head) = RequestHead::compose("GET", &path, "a", &[]) else { return Ok(()) };
        for filter in filters {
            let Ok(filters) = Filters::build(&[filter], 0) else { return Ok(()) };
            if filters.on_request(&mut head).is_err() {
                return Ok(());
            }
            let mut canonical = Vec::new();
            prop_assert!(crate::http::uri::canonical_path(head.path().as_bytes(), &mut canonical).is_ok());
            prop_assert_eq!(canonical, head.path().as_bytes());
        }
    }
}
