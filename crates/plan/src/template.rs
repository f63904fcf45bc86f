//! Texts with values of the request in them.

use crate::Operand;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pieces, one behind the other. A value that the request does not have is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Template(pub Vec<Piece>);

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// As it is.
    Text(String),
    /// A value of the request; none of its body.
    Value(Operand),
    /// The whole query, as sent.
    Query,
    /// `?` and the whole query; nothing where there is no query.
    MarkedQuery,
    /// The id of the exchange.
    RequestId,
}
