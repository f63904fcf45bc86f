//! Native filters: steps on a request and on its response, run in the order written.
//!
//! One file per kind. What can be wrong with a filter is wrong when it is built; on a request only a rewrite can fail. A route
//! without filters, or without filters on the response, pays for neither.

mod cors;
mod headers;
mod path;
mod query;

use crate::error::Kind;
use crate::fault::Fault;
use crate::http::{Fields, RequestHead};
use cors::Cors;
use headers::{Add, Remove, Set};
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
}

/// An answer that a filter gives in place of an endpoint: a status, fields, no body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 204 for a CORS preflight.
    pub status: u16,
    /// Without anything that frames the message.
    pub fields: Fields,
}

/// A step on a request.
trait OnRequest: fmt::Debug + Send + Sync {
    /// Change the head, or answer in the endpoint's place.
    fn apply(&self, head: &mut RequestHead) -> Result<Option<Answer>, Kind>;
}

/// A step on a response.
trait OnResponse: fmt::Debug + Send + Sync {
    /// Change the fields. `origin` is what the request named before any filter ran.
    fn apply(&self, origin: Option<&[u8]>, fields: &mut Fields);
}

impl Filters {
    /// Build the filters of the route of this index.
    ///
    /// # Errors
    /// All faults, at `routes[i].filters[j]`.
    pub fn build(filters: &[Filter], route: usize) -> Result<Filters, Vec<Fault>> {
        let (mut list, mut faults) = (List::default(), Vec::new());
        for (at, filter) in filters.iter().enumerate() {
            if let Err(message) = list.add(filter) {
                faults.push(Fault::new(format!("routes[{route}].filters[{at}]"), message));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Filters { request: list.request.into(), response: list.response.into() })
    }

    /// Run the filters on a request; an answer, where a filter gives one and the request goes no further.
    ///
    /// # Errors
    /// `BadRewrite` where a filter would leave a path that is none.
    #[inline]
    pub fn on_request(&self, head: &mut RequestHead) -> Result<Option<Answer>, Kind> {
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

    /// Run the filters on a response. `origin` is the request's `Origin` ([`request_origin`]) as it was before
    /// [`Self::on_request`].
    pub fn on_response(&self, origin: Option<&[u8]>, fields: &mut Fields) {
        for step in &self.response {
            step.apply(origin, fields);
        }
    }
}

/// The one `Origin` of a request; `None` where it has none, or several.
pub fn request_origin(fields: &Fields) -> Option<&[u8]> {
    cors::origin(fields)
}

#[derive(Default)]
struct List {
    request: Vec<Box<dyn OnRequest>>,
    response: Vec<Box<dyn OnResponse>>,
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
