//! What a forward proxy says of itself to a client that asks it as a server: how it is used, and what browsers and systems read for
//! that (a PAC file).

/// How a client has reached the proxy, by its own word.
#[derive(Clone, Copy, Debug)]
pub struct Reached<'a> {
    /// As a URL has it: an address of IPv6 in brackets.
    pub host: &'a str,
    /// The port of that.
    pub port: u16,
    /// Whether over TLS.
    pub tls: bool,
}

/// What is worth to be known.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    /// Clients have to say who they are.
    pub users: bool,
    /// It goes to addresses that are not public, too.
    pub private: bool,
    /// There is an authority whose certificate clients have to trust.
    pub authority: bool,
}

/// What there is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// A page for people.
    Page,
    /// A proxy auto-configuration file.
    Pac,
    /// The certificate of the authority.
    Authority,
}

impl Help {
    /// What stands at this path.
    pub fn at(path: &str) -> Option<Help> {
        match path {
            "/" => Some(Help::Page),
            "/proxy.pac" => Some(Help::Pac),
            "/ca.pem" => Some(Help::Authority),
            _ => None,
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Help::Page => "text/html; charset=utf-8",
            Help::Pac => "application/x-ns-proxy-autoconfig",
            Help::Authority => "application/x-x509-ca-cert",
        }
    }
}

impl Reached<'_> {
    fn scheme(self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn place(self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A function of JavaScript by which a browser finds out that it goes through us, but for what we refuse: no name is asked for in it.
pub fn pac(reached: Reached<'_>, about: About) -> String {
    let kind = if reached.tls { "HTTPS" } else { "PROXY" };
    let place = reached.place();
    let private = if about.private { "" } else { PRIVATE };
    format!(
        r#"function FindProxyForURL(url, host) {{
  host = host.toLowerCase();
  if (host === "localhost" || /\.localhost\.?$/.test(host) || /^127\.\d+\.\d+\.\d+$/.test(host) || /^\[?::1\]?$/.test(host)) return "DIRECT";
{private}  return "{kind} {place}";
}}
"#
    )
}

/// Names and addresses of the network where the client is, which we do not go to.
const PRIVATE: &str = r#"  if (isPlainHostName(host) || /\.local\.?$/.test(host)) return "DIRECT";
  if (/^(10|192\.168|169\.254|172\.(1[6-9]|2\d|3[01]))(\.\d+)+$/.test(host) || /^\[?f(c|d|e[89ab])[0-9a-f]*:/.test(host)) return "DIRECT";
"#;

/// The page.
pub fn page(reached: Reached<'_>, about: About) -> String {
    let (scheme, place) = (reached.scheme(), reached.place());
    let url = format!("{scheme}://{}{place}", if about.users { "NAME:PASSWORD@" } else { "" });
    let users = if about.users { "<p>It asks for a name and a password.</p>\n" } else { "" };
    let authority = if about.authority { AUTHORITY } else { "" };
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Proxy</title>
<style>body{{font:16px/1.5 sans-serif;max-width:44em;margin:2em auto;padding:0 1em}}pre{{background:#8882;padding:.6em;overflow:auto}}</style></head>
<body>
<h1>This is a proxy</h1>
<p>It is no site: programs send their requests through it. It is reached at <code>{place}</code>.</p>
{users}<h2>Browsers and systems</h2>
<p>Set the proxy for HTTP and HTTPS to <code>{place}</code>, or automatic configuration to <a href="/proxy.pac"><code>{scheme}://{place}/proxy.pac</code></a>.</p>
<h2>Programs</h2>
<pre>export http_proxy={url} https_proxy={url}
curl -x {url} https://example.com/
pip install --proxy {url} PACKAGE
git config --global http.proxy {url}</pre>
{authority}</body></html>
"#
    )
}

const AUTHORITY: &str = r#"<h2>Certificates</h2>
<p>Some of what goes through it is opened here. Programs then see certificates of <a href="/ca.pem" download="penstock-ca.pem">this authority</a>. Whoever trusts it trusts
those who run this proxy with everything that is said to such sites: ask them before you do, and compare its fingerprint (<code>penstock ca</code>).</p>
<pre>curl --cacert penstock-ca.pem …
pip install --cert penstock-ca.pem …
git config --global http.sslCAInfo /path/to/penstock-ca.pem</pre>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Reached<'_> = Reached { host: "proxy.example", port: 3128, tls: false };

    #[test]
    fn three_things_are_to_be_had() {
        let at = |path| Help::at(path).map(Help::content_type);
        assert_eq!(at("/proxy.pac"), Some("application/x-ns-proxy-autoconfig"));
        assert!(at("/").is_some_and(|kind| kind.starts_with("text/html")));
        assert!(at("/ca.pem").is_some());
        assert_eq!((at("/ca.key"), at("/proxy.pac/"), at("")), (None, None, None));
    }

    #[test]
    fn a_pac_file_names_us_and_what_we_refuse() {
        let said = pac(HERE, About::default());
        assert!(said.contains("return \"PROXY proxy.example:3128\";") && said.contains("isPlainHostName"));
        let private = pac(Reached { tls: true, ..HERE }, About { private: true, ..About::default() });
        assert!(private.contains("return \"HTTPS proxy.example:3128\";") && !private.contains("isPlainHostName"));
        assert!(private.contains("localhost"));
    }

    #[test]
    fn a_page_tells_what_there_is() {
        let plain = page(HERE, About::default());
        assert!(plain.contains("curl -x http://proxy.example:3128 ") && plain.contains("href=\"/proxy.pac\""));
        assert!(!plain.contains("ca.pem") && !plain.contains("NAME:"));
        let all = page(HERE, About { users: true, private: false, authority: true });
        assert!(all.contains("curl -x http://NAME:PASSWORD@proxy.example:3128 ") && all.contains("href=\"/ca.pem\""));
    }
}
