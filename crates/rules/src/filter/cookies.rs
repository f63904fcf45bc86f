//! Attributes of the cookies that endpoints set (RFC 6265 §4.1).
//!
//! A line is cut as browsers cut it (§5.2): at each `;`, quoted or not. What is not meant stays byte for byte, and a line that is no cookie
//! passes as it came. Each cookie keeps a line of its own.

use super::headers::{check_value, is_token};
use super::{Asked, OnResponse};
use crate::http::Fields;
use penstock_plan::{PrefixChange, SameSite};

/// What becomes of attributes.
#[derive(Debug)]
pub(super) struct EditCookies {
    /// Empty: all.
    names: Box<[Box<str>]>,
    /// `; Domain=…`, or empty.
    domain: Option<Box<str>>,
    path: Option<PrefixChange>,
    secure: Option<bool>,
    http_only: Option<bool>,
    same_site: Option<&'static str>,
}

impl EditCookies {
    pub(super) fn build(plan: &penstock_plan::EditCookies) -> Result<EditCookies, String> {
        if let Some(name) = plan.names.iter().find(|name| !is_token(name.as_bytes())) {
            return Err(format!("{name:?} is not the name of a cookie"));
        }
        let paths = plan.path.iter().flat_map(|change| [&change.from, &change.to]);
        for text in paths.chain(&plan.domain) {
            check_value(text)?;
            if text.contains([';', ' ', '"']) {
                return Err(format!("{text:?} cannot stand in a cookie's attribute"));
            }
        }
        let bare = |text: &String| text.trim_end_matches('/').to_owned();
        Ok(EditCookies {
            names: plan.names.iter().map(|name| name.as_str().into()).collect(),
            domain: plan.domain.as_ref().map(|domain| match domain.as_str() {
                "" => "".into(),
                domain => format!("; Domain={domain}").into(),
            }),
            path: plan.path.as_ref().map(|change| PrefixChange { from: bare(&change.from), to: bare(&change.to) }),
            secure: plan.secure,
            http_only: plan.http_only,
            same_site: plan.same_site.map(|same_site| match same_site {
                SameSite::Strict => "; SameSite=Strict",
                SameSite::Lax => "; SameSite=Lax",
                SameSite::None => "; SameSite=None",
            }),
        })
    }

    /// The line anew; `None`: as it is.
    fn edit(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut parts = line.split(|&byte| byte == b';');
        let pair = parts.next()?;
        let name = pair.split(|&byte| byte == b'=').next().filter(|name| name.len() < pair.len())?.trim_ascii();
        if name.is_empty() || !(self.names.is_empty() || self.names.iter().any(|one| one.as_bytes() == name)) {
            return None;
        }
        // Browsers drop a cookie whose name promises what its attributes then do not hold (RFC 6265bis §4.1.3).
        let has =
            |prefix: &str| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()));
        let (is_host, is_secure) = (has("__Host-"), has("__Host-") || has("__Secure-"));
        let domain = self.domain.as_deref().filter(|_| !is_host);
        let path = self.path.as_ref().filter(|_| !is_host);
        let secure = self.secure.filter(|secure| *secure || !is_secure);
        let mut edited = Vec::with_capacity(line.len() + 64);
        edited.extend_from_slice(pair);
        for part in parts {
            let (key, value) = attribute(part);
            let replaced = (key.eq_ignore_ascii_case(b"domain") && domain.is_some())
                || (key.eq_ignore_ascii_case(b"secure") && secure.is_some())
                || (key.eq_ignore_ascii_case(b"httponly") && self.http_only.is_some())
                || (key.eq_ignore_ascii_case(b"samesite") && self.same_site.is_some());
            if replaced {
                continue;
            }
            let mapped = path.filter(|_| key.eq_ignore_ascii_case(b"path")).and_then(|change| mapped(change, value));
            match mapped {
                Some(path) => edited.extend_from_slice(&[b"; Path=", &path[..]].concat()),
                None => edited.extend_from_slice(&[b";", part].concat()),
            }
        }
        let flag = |wanted: Option<bool>, text: &'static str| if wanted == Some(true) { text } else { "" };
        for text in [
            domain.unwrap_or_default(),
            flag(secure, "; Secure"),
            flag(self.http_only, "; HttpOnly"),
            self.same_site.unwrap_or_default(),
        ] {
            edited.extend_from_slice(text.as_bytes());
        }
        Some(edited)
    }
}

impl OnResponse for EditCookies {
    fn apply(&self, _: &Asked<'_>, fields: &mut Fields) {
        fields.edit("set-cookie", |line| self.edit(line));
    }
}

/// Name and value of an attribute.
fn attribute(part: &[u8]) -> (&[u8], &[u8]) {
    let at = part.iter().position(|&byte| byte == b'=');
    let (key, value) = part.split_at(at.unwrap_or(part.len()));
    (key.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
}

/// A path with its prefix replaced; `None` for one that does not have it.
fn mapped(change: &PrefixChange, path: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(change.from.as_bytes()).filter(|_| path.starts_with(b"/"))?;
    match (rest.first(), change.to.as_str()) {
        (None, "") => Some(b"/".to_vec()),
        (None | Some(b'/'), to) => Some([to.as_bytes(), rest].concat()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> penstock_plan::EditCookies {
        penstock_plan::EditCookies {
            names: vec![],
            domain: None,
            path: None,
            secure: None,
            http_only: None,
            same_site: None,
        }
    }

    fn edited(plan: &penstock_plan::EditCookies, line: &str) -> String {
        let edited = EditCookies::build(plan).unwrap().edit(line.as_bytes());
        edited.map_or_else(|| line.to_owned(), |edited| String::from_utf8(edited).unwrap())
    }

    #[test]
    fn attributes_are_set_and_replaced() {
        let all = penstock_plan::EditCookies {
            domain: Some("shop.example".into()),
            path: Some(PrefixChange { from: "/".into(), to: "/app/".into() }),
            secure: Some(true),
            http_only: Some(true),
            same_site: Some(SameSite::Lax),
            ..plan()
        };
        for (before, after) in [
            ("a=1", "a=1; Domain=shop.example; Secure; HttpOnly; SameSite=Lax"),
            (
                "a=1; path = /x ;DOMAIN=internal; secure; Expires=Thu, 01 Jan 2026 00:00:00 GMT; SameSite=None",
                "a=1; Path=/app/x; Expires=Thu, 01 Jan 2026 00:00:00 GMT; Domain=shop.example; Secure; HttpOnly; SameSite=Lax",
            ),
            ("a=\"x y\"; Path=/", "a=\"x y\"; Path=/app/; Domain=shop.example; Secure; HttpOnly; SameSite=Lax"),
            ("__Host-a=1; Path=/; Secure", "__Host-a=1; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ] {
            assert_eq!(edited(&all, before), after);
        }
        for same in ["", "a", "=1", ";a=1", "Secure; a=1"] {
            assert_eq!(edited(&all, same), same);
        }
    }

    #[test]
    fn what_is_not_meant_stays() {
        let named = penstock_plan::EditCookies { names: vec!["a".into()], secure: Some(true), ..plan() };
        assert_eq!(edited(&named, "A=1; Path=/"), "A=1; Path=/");
        assert_eq!(edited(&named, "a=1 ;Path=/;x;"), "a=1 ;Path=/;x;; Secure");
        let off = penstock_plan::EditCookies { secure: Some(false), domain: Some(String::new()), ..plan() };
        assert_eq!(edited(&off, "a=1; Secure; Domain=x; HttpOnly"), "a=1; HttpOnly");
        assert_eq!(edited(&off, "__Secure-a=1; Secure; Domain=x"), "__Secure-a=1; Secure");
        let path = |from: &str, to: &str, line: &str| {
            let change = PrefixChange { from: from.into(), to: to.into() };
            edited(&penstock_plan::EditCookies { path: Some(change), ..plan() }, line)
        };
        assert_eq!(path("/in", "/", "a=1; Path=/in"), "a=1; Path=/");
        assert_eq!(path("/in", "/out", "a=1; Path=/in/x"), "a=1; Path=/out/x");
        assert_eq!(path("/in", "/out", "a=1; Path=/inside"), "a=1; Path=/inside");
        assert_eq!(path("/", "/out", "a=1; Path=x"), "a=1; Path=x");
    }

    #[test]
    fn nothing_else_can_be_said_in_an_attribute() {
        for domain in ["a;b", "a\r\nb", "a b"] {
            assert!(EditCookies::build(&penstock_plan::EditCookies { domain: Some(domain.into()), ..plan() }).is_err());
        }
        assert!(EditCookies::build(&penstock_plan::EditCookies { names: vec!["a=".into()], ..plan() }).is_err());
    }
}
