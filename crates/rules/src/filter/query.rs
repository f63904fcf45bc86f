//! Parameters of the query set and removed. All others keep their place and their spelling.

use super::{CorsAnswer, OnRequest};
use crate::error::Kind;
use crate::http::{RequestHead, Target};
use crate::route::query::{encode, is_named, pieces};

/// Replace the first parameter of each name and drop the further ones; append it where there is none.
#[derive(Debug)]
pub(super) struct SetQuery(Box<[Parameter]>);

#[derive(Debug)]
struct Parameter {
    name: Box<str>,
    /// `name=value`, escaped.
    piece: Box<str>,
}

/// Drop every parameter of each name.
#[derive(Debug)]
pub(super) struct RemoveQuery(Box<[Box<str>]>);

impl SetQuery {
    pub(super) fn build(parameters: &[(String, String)]) -> SetQuery {
        let parameter = |(name, value): &(String, String)| {
            let mut piece = String::new();
            encode(name, &mut piece);
            piece.push('=');
            encode(value, &mut piece);
            Parameter { name: name.as_str().into(), piece: piece.into() }
        };
        SetQuery(parameters.iter().map(parameter).collect())
    }
}

impl OnRequest for SetQuery {
    fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
        if head.target != Target::Resource {
            return Ok(None);
        }
        for parameter in &self.0 {
            let mut query = Joined::default();
            let mut missing = true;
            for piece in head.query().filter(|query| !query.is_empty()).into_iter().flat_map(pieces) {
                match is_named(piece, &parameter.name) {
                    false => query.push(piece),
                    true if missing => {
                        query.push(&parameter.piece);
                        missing = false;
                    }
                    true => {}
                }
            }
            if missing {
                query.push(&parameter.piece);
            }
            head.set_query(query.0.as_deref());
        }
        Ok(None)
    }
}

impl RemoveQuery {
    pub(super) fn build(names: &[String]) -> RemoveQuery {
        RemoveQuery(names.iter().map(|name| name.as_str().into()).collect())
    }

    fn names(&self, piece: &str) -> bool {
        self.0.iter().any(|name| is_named(piece, name))
    }
}

impl OnRequest for RemoveQuery {
    fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
        let Some(query) = head.query() else { return Ok(None) };
        if pieces(query).any(|piece| self.names(piece)) {
            let mut left = Joined::default();
            pieces(query).filter(|piece| !self.names(piece)).for_each(|piece| left.push(piece));
            head.set_query(left.0.as_deref());
        }
        Ok(None)
    }
}

/// Pieces joined by `&`; `None` without any, which is not the same as one empty piece.
#[derive(Default)]
struct Joined(Option<String>);

impl Joined {
    fn push(&mut self, piece: &str) {
        match &mut self.0 {
            Some(joined) => {
                joined.push('&');
                joined.push_str(piece);
            }
            None => self.0 = Some(piece.to_owned()),
        }
    }
}
