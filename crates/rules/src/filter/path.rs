//! Prefixes and rewrites of the path.
//!
//! Prefixes are made canonical when they are built, and are taken off and put on in whole segments: what is left of a canonical
//! path is then canonical again, and cannot climb. A rewrite by pattern can leave anything and is canonicalised anew.

use super::{CorsAnswer, OnRequest};
use crate::error::Kind;
use crate::fault;
use crate::http::{RequestHead, Target, uri};
use penstock_plan::Rewrite;

/// One whole-segment prefix in place of another.
#[derive(Debug)]
pub(super) struct ReplacePrefix {
    from: Prefix,
    to: Prefix,
}

/// A prefix before the path.
#[derive(Debug)]
pub(super) struct AddPrefix(Prefix);

/// What a regular expression finds in the path, replaced.
#[derive(Debug)]
pub(super) struct RewritePath {
    regex: regex::bytes::Regex,
    to: String,
}

/// Canonical, without the slash at the end; of `/` nothing is left.
#[derive(Debug)]
struct Prefix(Box<str>);

/// Longest path that a rewrite may make: a replacement of every character could grow it without bound.
const LONGEST: usize = 1 << 16;

impl Prefix {
    fn build(text: &str) -> Result<Prefix, String> {
        let mut canonical = Vec::new();
        let message = || format!("{text:?} is not a path: begin it with \"/\", escape what a path may not contain");
        uri::canonical_path(text.as_bytes(), &mut canonical).map_err(|_| message())?;
        let canonical = String::from_utf8(canonical).map_err(|_| message())?;
        Ok(Prefix(canonical.trim_end_matches('/').into()))
    }
}

impl ReplacePrefix {
    pub(super) fn build(from: &str, to: &str) -> Result<ReplacePrefix, String> {
        Ok(ReplacePrefix { from: Prefix::build(from)?, to: Prefix::build(to)? })
    }
}

impl OnRequest for ReplacePrefix {
    fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
        if let Some(rest) = head.path().strip_prefix(&*self.from.0)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            let skip = head.path().len() - rest.len();
            put(head, &self.to.0, skip);
        }
        Ok(None)
    }
}

impl AddPrefix {
    pub(super) fn build(prefix: &str) -> Result<AddPrefix, String> {
        Prefix::build(prefix).map(AddPrefix)
    }
}

impl OnRequest for AddPrefix {
    fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
        // `OPTIONS *` has no path.
        if head.target == Target::Resource {
            put(head, &self.0.0, 0);
        }
        Ok(None)
    }
}

/// Paths up to this length are put together without the heap.
const ON_STACK: usize = 256;

/// `prefix` and the path from its `skip`th byte on become the path; `/` if nothing is left.
fn put(head: &mut RequestHead, prefix: &str, skip: usize) {
    let rest = head.path().get(skip..).unwrap_or_default();
    let length = prefix.len() + rest.len();
    let mut stack = [0; ON_STACK];
    match stack.get_mut(..length) {
        Some([]) => head.set_path("/"),
        Some(room) => {
            let (before, behind) = room.split_at_mut(prefix.len());
            before.copy_from_slice(prefix.as_bytes());
            behind.copy_from_slice(rest.as_bytes());
            // Two texts behind one another are a text.
            head.set_path(str::from_utf8(room).unwrap_or("/"));
        }
        None => {
            let path = [prefix, rest].concat();
            head.set_path(&path);
        }
    }
}

impl RewritePath {
    pub(super) fn build(rewrite: &Rewrite) -> Result<RewritePath, String> {
        let regex = fault::regex(&rewrite.regex).map_err(|reason| format!("regular expression: {reason}"))?;
        Ok(RewritePath { regex, to: rewrite.to.clone() })
    }
}

impl OnRequest for RewritePath {
    fn apply(&self, head: &mut RequestHead) -> Result<Option<CorsAnswer>, Kind> {
        let path = head.path().as_bytes();
        if head.target != Target::Resource || !self.regex.is_match(path) {
            return Ok(None);
        }
        let (mut rewritten, mut copied) = (Vec::with_capacity(path.len()), 0);
        for found in self.regex.captures_iter(path) {
            let Some(whole) = found.get(0) else { continue };
            rewritten.extend_from_slice(path.get(copied..whole.start()).unwrap_or_default());
            found.expand(self.to.as_bytes(), &mut rewritten);
            copied = whole.end();
            if rewritten.len() > LONGEST {
                return Err(Kind::BadRewrite);
            }
        }
        rewritten.extend_from_slice(path.get(copied..).unwrap_or_default());
        let mut canonical = Vec::with_capacity(rewritten.len() + 1);
        uri::canonical_path(&escaped(&rewritten), &mut canonical).map_err(|_| Kind::BadRewrite)?;
        head.set_path(str::from_utf8(&canonical).map_err(|_| Kind::BadRewrite)?);
        Ok(None)
    }
}

/// With a slash at the front, and with what ends a path or may not stand in one escaped.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 1);
    if path.first() != Some(&b'/') {
        out.push(b'/');
    }
    for &byte in path {
        match byte {
            b'?' | b'#' | b'"' | b'<' | b'>' | b' ' | 0x80.. => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes())
            }
            _ => out.push(byte),
        }
    }
    out
}
