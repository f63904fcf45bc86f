//! What is wrong with a plan that its types cannot say: a regular expression that does not compile, an index that names
//! nothing. Faults are collected, never the first alone, so that Python can show them all with file and line.

use serde::Serialize;
use std::fmt;

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where in the plan: `routes[3].match`.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Fault {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.path, self.message)
    }
}

/// Compile a regular expression from the plan over text or bytes, bounded in size.
///
/// # Errors
/// What is wrong with it, in one line.
pub(crate) fn regex(pattern: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(pattern).size_limit(REGEX_SIZE).build().map_err(|error| regex_fault(&error))
}

/// What is wrong with a regular expression, in one line.
pub(crate) fn regex_fault(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("larger than {limit} bytes when compiled"),
        // The crate draws the pattern and a caret over several lines; the last one says what is wrong.
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            reason.strip_prefix("error: ").unwrap_or(reason).to_owned()
        }
    }
}

/// Memory that one compiled regular expression may take.
const REGEX_SIZE: usize = 1 << 20;
