//! Forward authentication: what another service is asked about a request, and what its answer does to it.
//!
//! The law of this file: of the fields that the service may set, nothing of the client's reaches an endpoint, whether the service
//! sets them or not (safety.md 136). Whatever is no 2xx, a service that cannot be asked included, lets nothing pass.

use crate::error::{Kind, Side};
use crate::fault::Fault;
use crate::filter::headers::check_name;
use crate::http::{Field, Known, RequestHead, ResponseHead, uri};

/// Bytes that the body of the service's answer may have.
pub const LONGEST: usize = 64 << 10;

const METHOD: &str = "x-forwarded-method";
const URI: &str = "x-forwarded-uri";

/// What is asked on a route.
#[derive(Debug)]
pub struct ForwardAuth {
    path: Box<str>,
    query: Option<Box<str>>,
    copied: Box<[Box<str>]>,
}

impl ForwardAuth {
    /// Build what the route of this index asks.
    ///
    /// # Errors
    /// All faults, at `routes[i].forward_auth`.
    pub fn build(plan: &penstock_plan::ForwardAuth, upstreams: usize, route: usize) -> Result<ForwardAuth, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: String| {
            faults.push(Fault::new(format!("routes[{route}].forward_auth.{key}"), message));
        };
        if plan.upstream as usize >= upstreams {
            fault("upstream", format!("there is no upstream {}", plan.upstream));
        }
        let (path, query) = match plan.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (plan.path.as_str(), None),
        };
        let mut canonical = Vec::new();
        let is_path = uri::canonical_path(path.as_bytes(), &mut canonical).is_ok();
        let path = String::from_utf8(canonical).unwrap_or_default();
        if !is_path || !query.is_none_or(|query| uri::is_query(query.as_bytes())) {
            fault("path", format!("{:?} is not a path", plan.path));
        }
        for name in &plan.copy_headers {
            if let Err(message) = check_copied(name) {
                fault("copy_headers", message);
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let copied = plan.copy_headers.iter().map(|name| name.as_str().into()).collect();
        Ok(ForwardAuth { path: path.into(), query: query.map(Into::into), copied })
    }

    /// Take out of `request` what only the service may say of it; what the service is asked: a GET with the fields of the request,
    /// which has not met any filter, and with `X-Forwarded-Method` and `X-Forwarded-Uri` beside those that every endpoint gets.
    pub fn ask(&self, request: &mut RequestHead) -> Box<RequestHead> {
        let mut question = Box::new(request.clone());
        request.fields.retain(|field| !self.is_copied(field.name));
        question.fields.retain(|field| self.is_told(&field));
        question.fields.push(METHOD, request.method());
        // As it is routed and not as it was written: the service must not judge another path than the one that is served.
        let mut target = request.path().to_owned();
        if let Some(query) = request.query() {
            target.extend(["?", query]);
        }
        question.fields.push(URI, target);
        question.ask_for(&self.path, self.query.as_deref());
        question
    }

    /// Whether an answer of this status lets the request pass.
    pub fn allows(status: u16) -> bool {
        (200..300).contains(&status)
    }

    /// Give the request what the service says of it.
    pub fn accept(&self, answer: &ResponseHead, request: &mut RequestHead) {
        for name in &self.copied {
            let mut values = answer.fields.all(name).peekable();
            if values.peek().is_some() {
                // What a filter set stands only where the service says nothing.
                request.fields.remove(name);
                values.for_each(|value| request.fields.push(name.as_bytes(), value));
            }
        }
    }

    /// What the client is told where asking failed for this reason.
    pub fn failure(reason: Kind) -> Kind {
        match reason.status() {
            _ if reason.side() == Side::Downstream => reason,
            502 => Kind::AuthFailed,
            504 => Kind::AuthTimeout,
            _ => Kind::AuthUnavailable,
        }
    }

    fn is_copied(&self, name: &[u8]) -> bool {
        self.copied.iter().any(|copied| reads_as(name, copied.as_bytes()))
    }

    /// Whether the service is told this field. It gets no body, is asked for no part and for nothing that it might have said before, and
    /// decides on credentials, even where it puts others in their place.
    fn is_told(&self, field: &Field<'_>) -> bool {
        let begins = |prefix: &str| {
            field.name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let is_ours = reads_as(field.name, METHOD.as_bytes()) || reads_as(field.name, URI.as_bytes());
        let is_credential = matches!(field.known, Known::Authorization | Known::Cookie);
        let is_of_body = begins("content-") || matches!(field.known, Known::Range | Known::Expect);
        !is_ours && !is_of_body && !begins("if-") && (is_credential || !self.is_copied(field.name))
    }
}

fn check_copied(name: &str) -> Result<(), String> {
    check_name(name)?;
    match Known::of(name.as_bytes()) {
        Known::Host | Known::XRequestId => Err(format!("{name} is every request's, and set by the proxy alone")),
        _ if name.contains('_') => Err(format!("{name} has a \"_\": fields with one are dropped from requests")),
        _ => Ok(()),
    }
}

/// Whether servers that hand fields on as variables take both names for one: to them all but letters and digits is one sign
/// (RFC 3875 §4.1.18).
fn reads_as(name: &[u8], other: &[u8]) -> bool {
    let alike =
        |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    name.len() == other.len() && name.iter().zip(other).all(alike)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn plan(names: &[&str]) -> penstock_plan::ForwardAuth {
        penstock_plan::ForwardAuth {
            upstream: 0,
            path: "/verify?site=a".into(),
            copy_headers: names.iter().map(|name| (*name).to_owned()).collect(),
            timeout: Duration::from_secs(5),
        }
    }

    fn request(fields: &[(&str, &str)]) -> RequestHead {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        RequestHead::compose("POST", "/a/../b%2Fc?d=e", "shop.example", &fields).unwrap()
    }

    fn lines(head: &RequestHead) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        head.fields.iter().map(|field| format!("{}: {}", text(field.name), text(field.value))).collect()
    }

    #[test]
    fn the_service_is_asked_about_the_request_and_gets_none_of_its_body() {
        let auth = ForwardAuth::build(&plan(&[]), 1, 0).unwrap();
        let mut head = request(&[
            ("Cookie", "s=1"),
            ("Content-Length", "5"),
            ("Content-Type", "text/plain"),
            ("If-None-Match", "\"x\""),
            ("Range", "bytes=0-1"),
            ("Expect", "100-continue"),
            ("Connection", "upgrade"),
            ("Upgrade", "websocket"),
            ("X-Forwarded-Uri", "/public"),
            ("X.Forwarded~Method", "GET"),
            ("X-Own", "1"),
        ]);
        let question = auth.ask(&mut head);
        assert_eq!((question.method(), question.path(), question.query()), ("GET", "/verify", Some("site=a")));
        assert_eq!(question.length, crate::http::Length::None);
        assert!(!question.options.upgrade && !question.options.expect_continue);
        assert_eq!(
            lines(&question),
            [
                "host: shop.example",
                "Cookie: s=1",
                "Connection: upgrade",
                "Upgrade: websocket",
                "X-Own: 1",
                "x-forwarded-method: POST",
                "x-forwarded-uri: /b%2Fc?d=e"
            ]
        );
        assert_eq!((head.method(), head.path()), ("POST", "/b%2Fc"));
        assert!(head.options.upgrade);
    }

    #[test]
    fn nothing_of_the_clients_stands_where_the_service_speaks() {
        let auth = ForwardAuth::build(&plan(&["remote-user", "authorization", "x-groups"]), 1, 0).unwrap();
        let disguised =
            [("Remote-User", "root"), ("REMOTE-USER", "root"), ("Remote.User", "root"), ("remote!user", "root")];
        let mut head = request(&[&disguised[..], &[("Authorization", "Basic x"), ("Remote-Users", "1")]].concat());
        let question = auth.ask(&mut head);
        assert_eq!(lines(&head), ["host: shop.example", "Remote-Users: 1"]);
        assert_eq!(lines(&question)[1..3], ["Authorization: Basic x", "Remote-Users: 1"]);
        head.fields.push("x-groups", "set by a filter");
        head.fields.push("remote-user", "nobody");
        let mut answer = ResponseHead::default();
        answer.fields.push("Remote-User", "alice");
        answer.fields.push("remote-user", "bob");
        answer.fields.push("X-Other", "1");
        auth.accept(&answer, &mut head);
        let expected = [
            "host: shop.example",
            "Remote-Users: 1",
            "x-groups: set by a filter",
            "remote-user: alice",
            "remote-user: bob",
        ];
        assert_eq!(lines(&head), expected);
    }

    #[test]
    fn only_success_passes_and_every_failure_has_a_name() {
        assert!(ForwardAuth::allows(200) && ForwardAuth::allows(204));
        assert!(![101, 199, 300, 302, 304, 401, 500].into_iter().any(ForwardAuth::allows));
        for (reason, told) in [
            (Kind::ConnectRefused, Kind::AuthFailed),
            (Kind::ResponseTooLarge, Kind::AuthFailed),
            (Kind::TotalTimeout, Kind::AuthTimeout),
            (Kind::ConnectTimeout, Kind::AuthTimeout),
            (Kind::NoEndpoint, Kind::AuthUnavailable),
            (Kind::Internal, Kind::AuthUnavailable),
            (Kind::ClientClosed, Kind::ClientClosed),
        ] {
            assert_eq!(ForwardAuth::failure(reason), told, "{reason:?}");
        }
    }

    #[test]
    fn what_cannot_be_asked_or_copied_is_a_fault() {
        for name in ["host", "x-request-id", "x-forwarded-for", "content-length", "remote_user", "a b", ""] {
            assert_eq!(
                ForwardAuth::build(&plan(&[name]), 1, 3).unwrap_err()[0].path,
                "routes[3].forward_auth.copy_headers"
            );
        }
        for path in ["verify", "/a b", "/a?b c", "/../a", ""] {
            let plan = penstock_plan::ForwardAuth { path: path.into(), ..plan(&[]) };
            assert_eq!(ForwardAuth::build(&plan, 1, 0).unwrap_err()[0].path, "routes[0].forward_auth.path", "{path}");
        }
        assert_eq!(ForwardAuth::build(&plan(&[]), 0, 0).unwrap_err()[0].path, "routes[0].forward_auth.upstream");
    }
}
