//! Cross-origin resource sharing (Fetch standard, §3.2, "CORS protocol").
//!
//! Preflights are answered here; actual responses get the fields that the plan says, in place of the endpoint's own. An origin
//! that is not allowed gets none, and the browser keeps the answer from the page.

use super::headers::{check_value, is_token, vary};
use super::{Asked, CorsAnswer, OnRequest, OnResponse};
use crate::error::Kind;
use crate::http::{Fields, Known, RequestHead};
use std::sync::Arc;

/// A compiled policy.
#[derive(Debug)]
pub(super) struct Cors {
    /// `None`: any.
    origins: Option<Box<[Box<str>]>>,
    methods: Box<str>,
    /// `None`: whatever the preflight asks for.
    headers: Option<Box<str>>,
    expose: Option<Box<str>>,
    credentials: bool,
    max_age: Box<str>,
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
const EXPOSE_HEADERS: &str = "access-control-expose-headers";
const REQUEST_METHOD: &str = "access-control-request-method";
const REQUEST_HEADERS: &str = "access-control-request-headers";

impl Cors {
    pub(super) fn build(cors: &penstock_plan::Cors) -> Result<Cors, String> {
        let any = cors.origins.iter().any(|origin| origin == "*");
        if any && cors.origins.len() > 1 {
            return Err("\"*\" allows every origin and stands alone".to_owned());
        }
        if any && cors.credentials {
            return Err("credentials cannot be allowed to every origin: name the origins".to_owned());
        }
        let names = cors.methods.iter().chain(&cors.headers).chain(&cors.expose);
        if let Some(name) = names.into_iter().find(|name| !is_token(name.as_bytes())) {
            return Err(format!("{name:?} is not a method or field name"));
        }
        cors.origins.iter().try_for_each(|origin| check_value(origin))?;
        let listed = |names: &[String]| (!names.is_empty()).then(|| Box::from(names.join(", ")));
        Ok(Cors {
            origins: (!any).then(|| cors.origins.iter().map(|origin| origin.as_str().into()).collect()),
            methods: cors.methods.join(", ").into(),
            headers: listed(&cors.headers),
            expose: listed(&cors.expose),
            credentials: cors.credentials,
            max_age: cors.max_age.to_string().into(),
        })
    }

    /// What `Access-Control-Allow-Origin` says to this origin; `None` if it is not allowed.
    fn allowed<'a>(&self, origin: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match &self.origins {
            None => Some(b"*"),
            Some(origins) => origin.filter(|origin| origins.iter().any(|allowed| allowed.as_bytes() == *origin)),
        }
    }

    fn write_origin(&self, origin: Option<&[u8]>, fields: &mut Fields) {
        if let Some(allowed) = self.allowed(origin) {
            fields.push(ALLOW_ORIGIN, allowed);
            if self.credentials {
                fields.push(ALLOW_CREDENTIALS, "true");
            }
        }
        // Also where the origin is not allowed, or the request named none: a cache must not hand that answer to another.
        if self.origins.is_some() {
            vary(fields, "Origin");
        }
    }
}

impl OnRequest for Arc<Cors> {
    /// Answers a preflight: `OPTIONS` with `Origin` and `Access-Control-Request-Method`.
    fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
        let origin = origin(&head.fields);
        if head.method() != "OPTIONS" || origin.is_none() || head.fields.get(REQUEST_METHOD).is_none() {
            return Ok(None);
        }
        let mut fields = Fields::default();
        self.write_origin(origin, &mut fields);
        if self.headers.is_none() {
            vary(&mut fields, "Access-Control-Request-Headers");
        }
        if self.allowed(origin).is_some() {
            let asked = head.fields.get(REQUEST_HEADERS).filter(|asked| is_list(asked));
            let headers = self.headers.as_deref().map(str::as_bytes).or(asked);
            if !self.methods.is_empty() {
                fields.push("access-control-allow-methods", self.methods.as_bytes());
            }
            if let Some(headers) = headers {
                fields.push("access-control-allow-headers", headers);
            }
            fields.push("access-control-max-age", self.max_age.as_bytes());
        }
        Ok(Some(CorsAnswer { status: 204, fields }))
    }
}

impl OnResponse for Arc<Cors> {
    fn apply(&self, asked: &Asked<'_>, fields: &mut Fields) {
        let origin = origin(&asked.head.fields);
        fields.retain(|field| {
            let prefix = field.name.get(..b"access-control-".len());
            !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"access-control-"))
        });
        self.write_origin(origin, fields);
        if let Some(expose) = self.expose.as_deref().filter(|_| self.allowed(origin).is_some()) {
            fields.push(EXPOSE_HEADERS, expose.as_bytes());
        }
    }
}

/// The one `Origin`; several say nothing that could be trusted.
fn origin(fields: &Fields) -> Option<&[u8]> {
    let mut origins = fields.all_known(Known::Origin);
    origins.next().filter(|_| origins.next().is_none())
}

/// Whether a list of names may be repeated to the client as it is.
fn is_list(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').all(|name| is_token(name.trim_ascii()))
}
