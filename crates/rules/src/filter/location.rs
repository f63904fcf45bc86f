//! Where an endpoint sends the client, told in the client's terms: `Location`, `Content-Location` and `Refresh`.
//!
//! What is no plain URL of HTTP, what names a place that no entry has, and what two readers could read differently passes unchanged.
//! A path that stands in for a whole URL is resolved by the client against the address that it used, whatever scheme and port
//! that has. No result begins with `//`, which would be another host.

use super::{Asked, OnResponse};
use crate::http::{Fields, HostLine, host, uri};
use penstock_plan::PrefixChange;
use std::borrow::Cow;

/// The entries, of which the first that fits is taken.
#[derive(Debug)]
pub(super) struct MapLocation(Box<[Entry]>);

#[derive(Debug)]
struct Entry {
    /// `None`: the place that the client asked for, whatever the endpoint calls it.
    from: Option<Site>,
    /// Canonical, without the slash at its end.
    path: Box<str>,
    /// Without the slash at its end.
    to: Box<str>,
}

/// A host with its port, and its scheme where one is said.
#[derive(Debug, PartialEq, Eq)]
struct Site {
    scheme: Option<Scheme>,
    host: Box<str>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// A URL in its parts.
struct Url<'a> {
    scheme: Option<Scheme>,
    authority: Option<&'a [u8]>,
    path: &'a [u8],
    /// Query and fragment, with their marks.
    tail: &'a [u8],
}

impl MapLocation {
    pub(super) fn build(changes: &[PrefixChange]) -> Result<MapLocation, String> {
        changes.iter().map(Entry::build).collect::<Result<_, _>>().map(MapLocation)
    }

    /// What stands for a URL; `None`: itself.
    fn map(&self, asked: &Asked<'_>, value: &[u8]) -> Option<Vec<u8>> {
        let url = Url::read(value)?;
        let site = match url.authority {
            Some(authority) => Some(Site::read(url.scheme, authority)?),
            None => None,
        };
        let path = url.resolved()?;
        let rest = |entry: &Entry| {
            let fits = match (&site, &entry.from) {
                (None, None) => true,
                (None, Some(_)) => false,
                (Some(site), Some(from)) => from.is(site),
                (Some(site), None) => {
                    [Site::of_host(asked), Site::of_client(asked)].iter().flatten().any(|own| own.is(site))
                }
            };
            let rest = path.strip_prefix(entry.path.as_bytes()).filter(|_| fits)?;
            matches!(rest.first(), None | Some(b'/')).then_some(rest)
        };
        let (entry, rest) = self.0.iter().find_map(|entry| Some((entry, rest(entry)?)))?;
        let slash: &[u8] = if rest.is_empty() && entry.to.is_empty() { b"/" } else { b"" };
        Some([entry.to.as_bytes(), rest, slash, url.tail].concat())
    }

    /// `5; url=http://…`, in quotes or not.
    fn map_refresh(&self, asked: &Asked<'_>, value: &[u8]) -> Option<Vec<u8>> {
        let at = value.windows(4).position(|word| word.eq_ignore_ascii_case(b"url="))? + 4;
        let (before, url) = value.split_at_checked(at)?;
        let delay = before.iter().position(|byte| b";,".contains(byte)).and_then(|end| before.get(..end))?;
        if delay.is_empty() || !delay.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return None;
        }
        let (quote, url) = match url.trim_ascii() {
            [quote @ (b'"' | b'\''), url @ .., end] if quote == end => (std::slice::from_ref(quote), url),
            url => (&[][..], url),
        };
        Some([before, quote, &self.map(asked, url)?, quote].concat())
    }
}

impl OnResponse for MapLocation {
    fn apply(&self, asked: &Asked<'_>, fields: &mut Fields) {
        // What we or an authentication service answer is in the client's terms already.
        if asked.host.is_some() {
            fields.edit("location", |value| self.map(asked, value));
            fields.edit("content-location", |value| self.map(asked, value));
            fields.edit("refresh", |value| self.map_refresh(asked, value));
        }
    }
}

impl Entry {
    fn build(change: &PrefixChange) -> Result<Entry, String> {
        let (from, path) = split(&change.from)?;
        let (to, behind) = split(&change.to)?;
        if to.is_some_and(|to| to.scheme.is_none()) {
            return Err(format!(
                "{:?} leaves the scheme open: begin with a path, or with http:// or https://",
                change.to
            ));
        }
        let origin = change.to.get(..change.to.len() - behind.len()).unwrap_or_default();
        let canonical = |path: &str| {
            let mut canonical = Vec::new();
            let path = if path.is_empty() { "/" } else { path };
            uri::canonical_path(path.as_bytes(), &mut canonical).map_err(|_| format!("{path:?} is not a path"))?;
            String::from_utf8(canonical).map_err(|_| format!("{path:?} is not a path"))
        };
        let to = [origin, canonical(behind)?.trim_end_matches('/')].concat();
        Ok(Entry { from, path: canonical(path)?.trim_end_matches('/').into(), to: to.into() })
    }
}

/// A site, if one is named, and the path behind it.
fn split(text: &str) -> Result<(Option<Site>, &str), String> {
    let message = || format!("{text:?} is neither a path nor an address of http:// or https://");
    let url = Url::read(text.as_bytes()).filter(|url| url.tail.is_empty()).ok_or_else(message)?;
    let site = match url.authority {
        Some(authority) => Some(Site::read(url.scheme, authority).ok_or_else(message)?),
        None => None,
    };
    Ok((site, text.get(text.len() - url.path.len()..).unwrap_or_default()))
}

impl<'a> Url<'a> {
    /// `None` for whatever is relative, of another scheme, or read in different ways: browsers drop white space and turn backslashes.
    fn read(value: &'a [u8]) -> Option<Url<'a>> {
        if value.iter().any(|byte| matches!(byte, 0..=b' ' | b'\\' | 0x7f)) {
            return None;
        }
        let scheme = |name: &[u8]| value.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        let (scheme, rest) = match value {
            _ if scheme(b"http://") => (Some(Scheme::Http), value.get(5..)?),
            _ if scheme(b"https://") => (Some(Scheme::Https), value.get(6..)?),
            _ => (None, value),
        };
        let (rest, tail) = rest.split_at(end(rest, b"?#"));
        let (authority, path) = match rest.strip_prefix(b"//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(end(rest, b"/"));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        (authority.is_some() || path.starts_with(b"/")).then_some(Url { scheme, authority, path, tail })
    }

    /// The path that clients will ask for; `None` where they differ about that.
    fn resolved(&self) -> Option<Cow<'a, [u8]>> {
        let has = |what: &[u8]| self.path.windows(what.len()).any(|part| part.eq_ignore_ascii_case(what));
        if self.path.is_empty() {
            return Some(Cow::Borrowed(b"/"));
        }
        if !has(b"/.") && !has(b"//") && !has(b"%2e") {
            return Some(Cow::Borrowed(self.path));
        }
        let mut path = Vec::new();
        uri::canonical_path(self.path, &mut path).ok()?;
        Some(Cow::Owned(path))
    }
}

fn end(bytes: &[u8], marks: &[u8]) -> usize {
    bytes.iter().position(|byte| marks.contains(byte)).unwrap_or(bytes.len())
}

impl Site {
    fn read(scheme: Option<Scheme>, authority: &[u8]) -> Option<Site> {
        let mut room = [0; host::LONGEST];
        let (length, port) = host::canonical(authority, &mut room).ok()?;
        let host = str::from_utf8(room.get(..length)?).ok()?.into();
        Some(Site { scheme, host, port })
    }

    /// What the endpoint was told in `Host`.
    fn of_host(asked: &Asked<'_>) -> Option<Site> {
        let (HostLine::Keep(host) | HostLine::Set(host)) = asked.host?;
        Site::read(None, host.as_bytes())
    }

    /// What the client said there, and the endpoint was told in `X-Forwarded-Host` at least.
    fn of_client(asked: &Asked<'_>) -> Option<Site> {
        let host = Some(asked.head.host()).filter(|host| !host.is_empty())?;
        Some(Site { scheme: None, host: host.into(), port: asked.head.port() })
    }

    /// Whether `other` is this site, or may be where something is left open.
    fn is(&self, other: &Site) -> bool {
        let default = |scheme| if scheme == Scheme::Http { 80 } else { 443 };
        let same_port = match self.scheme.or(other.scheme) {
            Some(scheme) => self.port.unwrap_or(default(scheme)) == other.port.unwrap_or(default(scheme)),
            None => self.port == other.port,
        };
        let same_scheme = self.scheme.is_none() || other.scheme.is_none() || self.scheme == other.scheme;
        self.host == other.host && same_port && same_scheme
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestHead;

    fn filter(entries: &[(&str, &str)]) -> MapLocation {
        let change = |(from, to): &(&str, &str)| PrefixChange { from: (*from).into(), to: (*to).into() };
        MapLocation::build(&entries.iter().map(change).collect::<Vec<_>>()).unwrap()
    }

    fn mapped(filter: &MapLocation, host: HostLine<'_>, name: &str, value: &str) -> String {
        let head = RequestHead::compose("GET", "/", "shop.example:8443", &[]).unwrap();
        let asked = Asked { head: &head, scheme: "https", host: Some(host) };
        let mut fields = Fields::default();
        fields.push(name, value);
        filter.apply(&asked, &mut fields);
        String::from_utf8(fields.get(name).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn an_origin_is_told_by_scheme_host_and_port() {
        let filter = filter(&[("http://internal/", "/app/"), ("https://internal/", "https://shop.example/s")]);
        for (before, after) in [
            ("http://internal/x?y=/z#f", "/app/x?y=/z#f"),
            ("HTTP://INTERNAL.:80/x", "/app/x"),
            ("http://internal", "/app/"),
            ("http://internal?x", "/app/?x"),
            ("//internal/x", "/app/x"),
            ("https://internal:443/x", "https://shop.example/s/x"),
            ("http://internal//evil.example/x", "/app/evil.example/x"),
            ("http://internal/a/../b", "/app/b"),
            ("http://internal/a/%2e%2e/b", "/app/b"),
            ("http://internal/ü", "/app/ü"),
        ] {
            assert_eq!(mapped(&filter, HostLine::Keep(""), "location", before), after);
        }
        for same in [
            "http://internal:8080/x",
            "http://internal.example/x",
            "http://user@internal/x",
            "http://internal/../x",
            "http://internal /x",
            "http://internal/\\evil.example",
            "http:internal/x",
            "ftp://internal/x",
            "/x",
            "x",
            "",
        ] {
            assert_eq!(mapped(&filter, HostLine::Keep(""), "location", same), same);
        }
    }

    #[test]
    fn a_path_stands_for_the_place_that_was_asked() {
        let filter = filter(&[("/v2", "/api"), ("/", "/app/")]);
        for (before, after) in [
            ("/v2/x", "/api/x"),
            ("/v2", "/api"),
            ("/v2?x", "/api?x"),
            ("/v2x", "/app/v2x"),
            ("/", "/app/"),
            ("http://shop.example:8443/v2/x", "/api/x"),
            ("//shop.example:8443/x", "/app/x"),
            ("http://shop.example/x", "http://shop.example/x"),
            ("//elsewhere.example/v2", "//elsewhere.example/v2"),
        ] {
            assert_eq!(mapped(&filter, HostLine::Keep("10.0.0.1:80"), "location", before), after);
        }
        for own in ["http://10.0.0.1/x", "http://shop.example:8443/x"] {
            assert_eq!(mapped(&filter, HostLine::Set("10.0.0.1:80"), "location", own), "/app/x");
        }
    }

    #[test]
    fn nothing_is_mapped_to_another_host() {
        let filter = filter(&[("http://internal/a", "/")]);
        for (before, after) in [("http://internal/a", "/"), ("http://internal/a//b.example", "/b.example")] {
            assert_eq!(mapped(&filter, HostLine::Keep(""), "location", before), after);
        }
        for (from, to) in
            [("internal", "/"), ("/a?b", "/"), ("/", "//internal"), ("ftp://a/", "/"), ("http://a b/", "/")]
        {
            assert!(Entry::build(&PrefixChange { from: from.into(), to: to.into() }).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn other_fields_say_where_to_go_too() {
        let filter = filter(&[("/", "/app")]);
        let map = |name: &str, value: &str| mapped(&filter, HostLine::Keep(""), name, value);
        assert_eq!(map("content-location", "/x"), "/app/x");
        for (before, after) in [
            ("5; url=/x", "5; url=/app/x"),
            ("0;URL='/x'", "0;URL='/app/x'"),
            ("1.5, url=\"/x\"", "1.5, url=\"/app/x\""),
            ("5", "5"),
            ("x; url=/x", "x; url=/x"),
            ("5; url='/x", "5; url='/x"),
        ] {
            assert_eq!(map("refresh", before), after);
        }
        let head = RequestHead::default();
        let mut fields = Fields::default();
        fields.push("location", "/x");
        filter.apply(&Asked { head: &head, scheme: "http", host: None }, &mut fields);
        assert_eq!(fields.get("location"), Some(&b"/x"[..]));
    }
}
