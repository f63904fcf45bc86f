//! Targets that only a forward proxy takes: whole URLs and tunnels. What they name counts, not what `Host` says
//! (RFC 9112 §3.2.2).

use super::fields::Range;
use super::{RequestHead, Target, host, uri};
use crate::error::Kind;

/// The dots of other scripts that browsers read as dots of a host (UTS #46 §2.3): U+3002, U+FF0E and U+FF61.
const DOTS: [char; 3] = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];

impl RequestHead {
    /// `http://host/path`. The path goes on as it came: what is canonical for its origin is not known here.
    pub(super) fn read_elsewhere(&mut self, target: &str) -> Result<(), Kind> {
        let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).ok_or(Kind::BadUri)?;
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
        (self.target, self.path) = (Target::Elsewhere, self.fields.store(path.as_bytes()));
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
        let mut head = RequestHead::default();
        let limits = HeadLimits { bytes: 65536, fields: 100, uri: 8192, elsewhere: true };
        head.parse(format!("{line} HTTP/1.1\r\nHost: other\r\n\r\n").as_bytes(), &limits).map(|()| head)
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
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (line, kind) in [
            ("GET ftp://a/", Kind::BadUri),
            ("GET file:///etc/passwd", Kind::BadUri),
            ("GET gopher://a/", Kind::BadUri),
            ("GET urn:x:y", Kind::BadUri),
            ("GET https://a/", Kind::BadUri),
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
    fn a_tunnel_goes_where_it_says() {
        let head = parse("CONNECT Example.COM:443").unwrap();
        assert_eq!(
            (head.target, head.host(), head.port(), head.path()),
            (Target::Tunnel, "example.com", Some(443), "")
        );
    }
}
