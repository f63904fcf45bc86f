//! Native filters: steps on a request and on its response, run in the order written.
//!
//! One file per kind. What can be wrong with a filter is wrong when it is built; on a request only a rewrite can fail. A route
//! without filters, or without filters on the response, pays for neither.

mod compress;
mod cookies;
mod cors;
pub(crate) mod headers;
mod hsts;
mod location;
mod path;
mod query;

use crate::error::Kind;
use crate::fault::Fault;
use crate::http::{Fields, HostLine, RequestHead};
pub use compress::Compress;
use cookies::EditCookies;
use cors::Cors;
use headers::{Add, Remove, Set};
use hsts::Hsts;
use location::MapLocation;
use path::{AddPrefix, ReplacePrefix, RewritePath};
use penstock_plan::Filter;
use query::{RemoveQuery, SetQuery};
use std::fmt;
use std::sync::Arc;

/// The filters of one route.
#[derive(Debug, Default)]
pub struct Filters {
    request: Box<[Box<dyn OnRequest>]>,
    response: Box<[Box<dyn OnResponse>]>,
    compress: Option<Compress>,
}

/// What a preflight is answered, in place of an endpoint: a status, fields, no body.
#[derive(Clone, Debug)]
pub struct CorsAnswer {
    /// 204.
    pub status: u16,
    /// Without anything that frames the message.
    pub fields: Fields,
}

/// A step on a request.
trait OnRequest: fmt::Debug + Send + Sync {
    /// Change the head, or answer in the endpoint's place.
    fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind>;
}

/// What was asked, as filters on the response see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request, as the filters left it.
    pub head: &'a RequestHead,
    /// `http` or `https`, as the client spoke ([`crate::http::forwarded::scheme`]).
    pub scheme: &'static str,
    /// The `Host` that the endpoint was asked with; `None` where the answer is no endpoint's.
    pub host: Option<HostLine<'a>>,
}

/// A step on a response.
trait OnResponse: fmt::Debug + Send + Sync {
    /// Change the fields of the response to what was asked.
    fn apply(&self, asked: &Asked<'_>, fields: &mut Fields);
}

impl Filters {
    /// Build the filters of the route of this index.
    ///
    /// # Errors
    /// All faults, at `routes[i].filters[j]`.
    pub fn build(filters: &[Filter], route: usize) -> Result<Filters, Vec<Fault>> {
        let (mut list, mut faults) = (List::default(), Vec::new());
        let cors = filters.iter().any(|filter| matches!(filter, Filter::Cors(_)));
        for (at, filter) in filters.iter().enumerate() {
            let added = match filter {
                filter if cors && changes_origin(filter) => Err("origin is read by this route's cors".to_owned()),
                filter => list.add(filter),
            };
            if let Err(message) = added {
                faults.push(Fault::new(format!("routes[{route}].filters[{at}]"), message));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Filters { request: list.request.into(), response: list.response.into(), compress: list.compress })
    }

    /// Run the filters on a request; an answer, where a filter gives one and the request goes no further.
    ///
    /// # Errors
    /// `BadRewrite` where a filter would leave a path that is none.
    #[inline]
    pub fn on_request(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
        for step in &self.request {
            if let Some(answer) = step.apply(head)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Whether there is anything to do on a response.
    #[inline]
    pub fn has_response(&self) -> bool {
        !self.response.is_empty()
    }

    /// How the bodies of responses are coded. It comes behind all other filters, wherever it is written: they see the fields of
    /// the endpoint's own representation.
    #[inline]
    pub fn compress(&self) -> Option<&Compress> {
        self.compress.as_ref()
    }

    /// Run the filters on the response to what was asked.
    pub fn on_response(&self, asked: &Asked<'_>, fields: &mut Fields) {
        for step in &self.response {
            step.apply(asked, fields);
        }
    }
}

/// A response is shared with the origin that its request names: with a filter of the same route that rewrote it, nothing true
/// could be said.
fn changes_origin(filter: &Filter) -> bool {
    match filter {
        Filter::SetRequestHeader(fields) | Filter::AddRequestHeader(fields) => {
            fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("origin"))
        }
        Filter::RemoveRequestHeader(names) => names.iter().any(|name| name.eq_ignore_ascii_case("origin")),
        _ => false,
    }
}

#[derive(Default)]
struct List {
    request: Vec<Box<dyn OnRequest>>,
    response: Vec<Box<dyn OnResponse>>,
    compress: Option<Compress>,
}

impl List {
    /// The list of all filters.
    fn add(&mut self, filter: &Filter) -> Result<(), String> {
        match filter {
            Filter::SetRequestHeader(fields) => self.request(Set::build(fields)?),
            Filter::AddRequestHeader(fields) => self.request(Add::build(fields)?),
            Filter::RemoveRequestHeader(names) => self.request(Remove::build(names)?),
            Filter::SetResponseHeader(fields) => self.response(Set::build(fields)?),
            Filter::AddResponseHeader(fields) => self.response(Add::build(fields)?),
            Filter::RemoveResponseHeader(names) => self.response(Remove::build(names)?),
            Filter::StripPrefix(prefix) => self.request(ReplacePrefix::build(prefix, "/")?),
            Filter::AddPrefix(prefix) => self.request(AddPrefix::build(prefix)?),
            Filter::ReplacePrefix(change) => self.request(ReplacePrefix::build(&change.from, &change.to)?),
            Filter::RewritePath(rewrite) => self.request(RewritePath::build(rewrite)?),
            Filter::SetQuery(parameters) => self.request(SetQuery::build(parameters)),
            Filter::RemoveQuery(names) => self.request(RemoveQuery::build(names)),
            Filter::Cors(cors) => {
                let cors = Arc::new(Cors::build(cors)?);
                self.request(Arc::clone(&cors));
                self.response(cors);
            }
            Filter::Compress(_) if self.compress.is_some() => {
                return Err("a route has one compress: a body is coded once".to_owned());
            }
            Filter::Compress(compress) => self.compress = Some(Compress::build(compress)?),
            Filter::MapLocation(changes) => self.response(MapLocation::build(changes)?),
            Filter::EditCookies(edit) => self.response(EditCookies::build(edit)?),
            Filter::Hsts(hsts) => self.response(Hsts::build(hsts)),
        }
        Ok(())
    }

    fn request(&mut self, step: impl OnRequest + 'static) {
        self.request.push(Box::new(step));
    }

    fn response(&mut self, step: impl OnResponse + 'static) {
        self.response.push(Box::new(step));
    }
}

#[cfg(test)]
mod tests;
