//! Targets that only a forward proxy takes: whole URLs and tunnels. What they name counts, not what `Host` says
//! (RFC 9112 §3.2.2).

use super::fields::Range;
use super::{RequestHead, Target, host, uri};
use crate::error::Kind;

/// The dots of other scripts that browsers read as dots of a host (UTS #46 §2.3): U+3002, U+FF0E and U+FF61.
const DOTS: [char; 3] = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];

/// The port of `https://` (RFC 9110 §4.2.2).
const HTTPS: u16 = 443;

impl RequestHead {
    /// `http://host/path`, `https://host/path`. The path goes on as it came: what is canonical for its origin is not known here.
    pub(super) fn read_elsewhere(&mut self, target: &str) -> Result<(), Kind> {
        let begins = |with: &str| target.get(..with.len()).filter(|scheme| scheme.eq_ignore_ascii_case(with));
        let (scheme, kind) = match (begins("http://"), begins("https://")) {
            (Some(scheme), _) => (scheme, Target::Elsewhere),
            (_, Some(scheme)) => (scheme, Target::Secure),
            _ => return Err(Kind::BadUri),
        };
        let rest = target.get(scheme.len()..).unwrap_or_default();
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, resource) = rest.split_at(end);
        let authority = match authority.rsplit_once('@') {
            // Who names a user in a URL gets the resource without: it is neither sent on nor logged (safety.md 153).
            Some((_, authority)) => {
                let told = format!("{scheme}{authority}{resource}");
                self.raw_target = self.fields.store(told.as_bytes());
                authority
            }
            None => authority,
        };
        self.read_authority(authority)?;
        let (path, query) = match resource.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (resource, None),
        };
        if !uri::is_query(path.as_bytes()) || !query.is_none_or(|query| uri::is_query(query.as_bytes())) {
            return Err(Kind::BadUri);
        }
        let path = match path {
            // RFC 9112 §3.2.4: the server itself is asked, not a resource of it.
            "" if query.is_none() && self.method_bytes() == b"OPTIONS" => "*",
            "" => "/",
            path => path,
        };
        (self.target, self.path) = (kind, self.fields.store(path.as_bytes()));
        self.query = query.map(|query| self.fields.store(query.as_bytes()));
        Ok(())
    }

    /// `host:port` of a `CONNECT` (RFC 9110 §9.3.6).
    pub(super) fn read_tunnel(&mut self, target: &str) -> Result<(), Kind> {
        self.read_authority(target)?;
        if self.port.is_none() {
            return Err(Kind::BadUri);
        }
        (self.target, self.path, self.query) = (Target::Tunnel, Range::default(), None);
        Ok(())
    }

    /// The request came through a tunnel to this host that was opened: its path goes on as it came, and its target is the whole URL.
    ///
    /// # Errors
    /// `Misdirected`: it is for another host or port, and the tunnel is not. `BadUri`: it is for another proxy.
    pub fn enter(&mut self, host: &str, port: u16) -> Result<(), Kind> {
        if !matches!(self.target, Target::Resource | Target::Server) {
            return Err(Kind::BadUri);
        }
        if self.host().is_empty() {
            // HTTP/1.0 knows no `Host`.
            self.host = self.fields.store(host.as_bytes());
            self.port = (port != HTTPS).then_some(port);
        }
        if self.host() != host || self.port.unwrap_or(HTTPS) != port {
            return Err(Kind::Misdirected);
        }
        let target = self.raw_target().to_owned();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        if !uri::is_query(path.as_bytes()) {
            return Err(Kind::BadUri);
        }
        self.path = self.fields.store(path.as_bytes());
        self.query = query.map(|query| self.fields.store(query.as_bytes()));
        let place = if port == HTTPS { String::new() } else { format!(":{port}") };
        let target = if self.target == Target::Server { "" } else { &target };
        self.raw_target = self.fields.store(format!("https://{host}{place}{target}").as_bytes());
        self.target = Target::Inside;
        Ok(())
    }

    /// The port that is asked for, by name or as the usual one.
    pub fn place_port(&self) -> u16 {
        self.port.unwrap_or(if matches!(self.target, Target::Inside | Target::Secure) { HTTPS } else { 80 })
    }

    /// Ask a parent for it: with the whole URL (RFC 9112 §3.2.2), and by what proves there who we are.
    pub fn go_through(&mut self, authorization: Option<&str>) {
        // RFC 9112 §3.2.4: of the server itself is asked without a path.
        let path = if self.path() == "*" { "" } else { self.path() };
        let port = self.port().map(|port| format!(":{port}")).unwrap_or_default();
        let url = format!("http://{}{port}{path}", self.host());
        self.path = self.fields.store(url.as_bytes());
        if let Some(authorization) = authorization {
            self.fields.push_for_next("proxy-authorization", authorization);
        }
    }

    fn read_authority(&mut self, authority: &str) -> Result<(), Kind> {
        let dotted;
        let authority = if authority.is_ascii() {
            authority
        } else {
            dotted = authority.replace(DOTS, ".");
            &dotted
        };
        let mut canonical = [0u8; host::LONGEST];
        let (length, port) = host::canonical(authority.as_bytes(), &mut canonical)?;
        let name = canonical.get(..length).unwrap_or_default();
        self.host = match host::number(name)? {
            Some(address) => self.fields.store(address.to_string().as_bytes()),
            None => self.fields.store(name),
        };
        self.port = port;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    fn parse(line: &str) -> Result<RequestHead, Kind> {
        parse_to(line, "other")
    }

    fn parse_to(line: &str, host: &str) -> Result<RequestHead, Kind> {
        let mut head = RequestHead::default();
        let limits = HeadLimits { bytes: 65536, fields: 100, uri: 8192, elsewhere: true };
        head.parse(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), &limits).map(|()| head)
    }

    #[test]
    fn a_url_names_the_host_and_its_path_stays_as_it_is() {
        for (target, host, port, path, query) in [
            ("http://EXAMPLE.com./a//../b?x", "example.com", None, "/a//../b", Some("x")),
            ("HTTP://a:81", "a", Some(81), "/", None),
            ("http://a?x", "a", None, "/", Some("x")),
            ("http://u:p@a/x", "a", None, "/x", None),
            ("http://good@evil@a/x", "a", None, "/x", None),
            ("http://[0:0::1]:8080/", "[::1]", Some(8080), "/", None),
            ("http://2130706433/", "127.0.0.1", None, "/", None),
            ("http://0177.0.0.1/", "127.0.0.1", None, "/", None),
            ("http://127.1/", "127.0.0.1", None, "/", None),
            ("http://0x7f.1/", "127.0.0.1", None, "/", None),
            ("http://localhost./", "localhost", None, "/", None),
            ("http://127\u{3002}0\u{ff0e}0\u{ff61}1/", "127.0.0.1", None, "/", None),
        ] {
            let head = parse(&format!("GET {target}")).unwrap();
            assert_eq!((head.host(), head.port(), head.path(), head.query()), (host, port, path, query), "{target}");
            assert_eq!(head.target, Target::Elsewhere);
            assert!(!head.raw_target().contains('@'), "{}", head.raw_target());
        }
        assert_eq!(parse("OPTIONS http://a").unwrap().path(), "*");
        assert_eq!(parse("GET /x").unwrap().target, Target::Resource);
        assert_eq!(parse("GET http://a:81").unwrap().place_port(), 81);
        assert_eq!(parse("GET http://a").unwrap().place_port(), 80);
        for (target, url, port) in [
            ("HTTPS://u:p@EXAMPLE.com/a//../b?x", "HTTPS://EXAMPLE.com/a//../b?x", 443),
            ("https://example.com:8443", "https://example.com:8443", 8443),
        ] {
            let head = parse(&format!("GET {target}")).unwrap();
            assert_eq!((head.target, head.host(), head.place_port()), (Target::Secure, "example.com", port));
            assert_eq!(head.raw_target(), url);
        }
    }

    #[test]
    fn what_comes_through_an_opened_tunnel_is_for_its_host_alone() {
        for (line, port, url, path, query) in [
            ("GET /a//../b?x=%7e", 443, "https://other/a//../b?x=%7e", "/a//../b", Some("x=%7e")),
            ("GET /", 8443, "https://other:8443/", "/", None),
            ("GET /%00/..%2f/../..?", 443, "https://other/%00/..%2f/../..?", "/%00/..%2f/../..", Some("")),
            ("OPTIONS *", 443, "https://other", "*", None),
        ] {
            let mut head = parse_to(line, if port == 443 { "other" } else { "OTHER.:8443" }).unwrap();
            assert_eq!(head.enter("other", port), Ok(()), "{line}");
            assert_eq!((head.raw_target(), head.path(), head.query()), (url, path, query), "{line}");
            assert_eq!((head.target, head.place_port()), (Target::Inside, port));
        }
        for (line, host, port, kind) in [
            ("GET /", "another", 443, Kind::Misdirected),
            ("GET /", "other", 444, Kind::Misdirected),
            ("GET http://other/", "other", 443, Kind::BadUri),
            ("CONNECT other:443", "other", 443, Kind::BadUri),
        ] {
            assert_eq!(parse(line).unwrap().enter(host, port), Err(kind), "{line}");
        }
        let mut old = RequestHead::default();
        let limits = HeadLimits { bytes: 65536, fields: 100, uri: 8192, elsewhere: true };
        old.parse(b"GET /x HTTP/1.0\r\n\r\n", &limits).unwrap();
        assert_eq!(old.enter("other", 444), Ok(()));
        assert_eq!((old.host(), old.place_port()), ("other", 444));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (line, kind) in [
            ("GET ftp://a/", Kind::BadUri),
            ("GET file:///etc/passwd", Kind::BadUri),
            ("GET gopher://a/", Kind::BadUri),
            ("GET urn:x:y", Kind::BadUri),
            ("GET https:/a/", Kind::BadUri),
            ("GET https:///x", Kind::BadHost),
            ("GET httpss://a/", Kind::BadUri),
            ("GET http:a", Kind::BadUri),
            ("GET http:///x", Kind::BadHost),
            ("GET http://u@/x", Kind::BadHost),
            ("GET http://a\\@b/", Kind::BadUri),
            ("GET http://a/#x", Kind::BadUri),
            ("GET http://a#@b/", Kind::BadUri),
            ("GET http://1.2.3.256/", Kind::BadHost),
            ("GET http://0x7f.0.0.0.1/", Kind::BadHost),
            ("GET http://a.08/", Kind::BadHost),
            ("GET http://a%00b/", Kind::BadHost),
            ("GET http://\u{fc}.example/", Kind::BadHost),
            ("CONNECT a", Kind::BadUri),
            ("CONNECT a:0", Kind::BadHost),
            ("CONNECT u@a:443", Kind::BadHost),
            ("CONNECT http://a:443", Kind::BadHost),
            ("TRACE http://a/", Kind::MethodNotAllowed),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }

    #[test]
    fn a_parent_gets_the_whole_url_and_who_we_are() {
        for (line, path) in [
            ("GET http://a.example:81/x?y", "http://a.example:81/x"),
            ("GET http://[::1]/", "http://[::1]/"),
            ("OPTIONS http://a.example", "http://a.example"),
        ] {
            let mut head = parse(line).unwrap();
            head.fields.push("Proxy-Authorization", "Basic of the client");
            head.go_through(Some("Basic ours"));
            assert_eq!(head.path(), path);
            let outward = crate::forward::Outward {
                pseudonym: "penstock-1".into(),
                via: true,
                forwarded_for: penstock_plan::Told::Delete,
                forwarded: penstock_plan::Told::Delete,
                anonymous: false,
            };
            let lines = crate::http::RequestLines {
                host: crate::http::HostLine::Keep(""),
                framing: crate::http::BodyFraming::None,
                identity: &crate::http::Identity::new("192.0.2.1", "http", None),
                trusted: false,
                outward: Some(&outward),
                request_id: b"",
                upgrade: false,
            };
            let mut written = Vec::new();
            crate::http::write_request(&head, &lines, &mut written);
            let written = String::from_utf8(written).unwrap();
            assert!(written.contains("proxy-authorization: Basic ours\r\n") && !written.contains("of the client"));
            assert!(!written.contains("192.0.2.1") && written.contains(" HTTP/1.1\r\nhost: "), "{written}");
        }
    }

    #[test]
    fn a_tunnel_goes_where_it_says() {
        let head = parse("CONNECT Example.COM:443").unwrap();
        assert_eq!(
            (head.target, head.host(), head.port(), head.path()),
            (Target::Tunnel, "example.com", Some(443), "")
        );
    }
}
