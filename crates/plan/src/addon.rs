//! Add-ons: Python code that is asked on the way of some requests.

use crate::millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One add-on as it is loaded now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Addon {
    /// Unique among add-ons.
    pub name: String,
    /// Which loading of it this is: code or settings that changed give another number, and what has the same is the same.
    pub id: u64,
    /// What it defines, in the order of [`Hook`].
    pub hooks: Vec<Hook>,
    /// How long a request waits for one call.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
    /// What becomes of a request whose call fails.
    pub on_failure: OnFailure,
    /// Calls that run at once.
    #[schemars(range(min = 1))]
    pub concurrency: u32,
    /// Calls that wait for their turn beyond those.
    pub queue: u32,
}

/// Where an add-on is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// The head of a request, after the route's filters.
    RequestHeaders,
    /// The head of an endpoint's response, before the route's filters.
    ResponseHeaders,
    /// The name and the password of a user of a forward proxy.
    Authenticate,
}

impl Hook {
    /// Every hook, in the order of [`Hook::index`].
    pub const ALL: [Hook; 3] = [Hook::RequestHeaders, Hook::ResponseHeaders, Hook::Authenticate];

    /// Place in [`Hook::ALL`], for counters.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name of the function.
    pub fn word(self) -> &'static str {
        match self {
            Hook::RequestHeaders => "request_headers",
            Hook::ResponseHeaders => "response_headers",
            Hook::Authenticate => "authenticate",
        }
    }
}

/// What becomes of a request whose call raises, is late or finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is refused.
    Deny,
    /// It goes on as if the add-on had not been named.
    Allow,
}
