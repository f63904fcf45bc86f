//! Who comes over plain HTTP is sent to the same place over TLS.
//!
//! How a client came is what a trusted proxy says of it, so that one behind a proxy that speaks TLS for us is not sent round for
//! ever. Requests that prove to an authority who owns a host (RFC 8555 §8.3) come over plain HTTP and are answered there.

use crate::answer::Answer;
use crate::error::Kind;
use crate::fault::Fault;
use crate::http::{ResponseHead, Target};
use crate::route::View;
use penstock_plan::{Action, HttpsRedirect, Operand, Piece, Redirect, Template};

const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The redirect of one listener.
#[derive(Debug)]
pub struct ToHttps(Answer);

impl ToHttps {
    /// Build the redirect of the listener of this index.
    ///
    /// # Errors
    /// None of a plan that Python made.
    pub fn build(plan: &HttpsRedirect, listener: usize) -> Result<ToHttps, Fault> {
        let mut pieces = vec![Piece::Text("https://".into()), Piece::Value(Operand::Host)];
        if plan.port != 443 {
            pieces.push(Piece::Text(format!(":{}", plan.port)));
        }
        pieces.extend([Piece::Value(Operand::Path), Piece::MarkedQuery]);
        let redirect = Action::Redirect(Redirect { to: Template(pieces), status: plan.status });
        match Answer::build(&redirect, 0) {
            Ok(Some(answer)) => Ok(ToHttps(answer)),
            _ => Err(Fault::new(format!("listeners[{listener}].https_redirect"), "is no redirect")),
        }
    }

    /// Whether this request is sent elsewhere.
    pub fn takes(&self, view: &View<'_>) -> bool {
        view.scheme == "http" && view.head.target == Target::Resource && !view.head.path().starts_with(CHALLENGES)
    }

    /// Put where to into `response`.
    ///
    /// # Errors
    /// `BadHost` of a request that names no host, `TemplateTooLarge`.
    pub fn write(&self, view: &View<'_>, response: &mut ResponseHead) -> Result<(), Kind> {
        self.0.write(view, b"", response).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestHead;

    fn sent(port: u16, scheme: &str, target: &str, host: &str) -> Option<String> {
        let to_https = ToHttps::build(&HttpsRedirect { status: 308, port }, 0).unwrap();
        let head = RequestHead::compose("GET", target, host, &[]).unwrap();
        let view = View { scheme, ..View::of(&head) };
        let mut response = ResponseHead::default();
        to_https.takes(&view).then(|| {
            to_https.write(&view, &mut response).unwrap();
            assert_eq!(response.status, 308);
            String::from_utf8(response.fields.get("location").unwrap().to_vec()).unwrap()
        })
    }

    #[test]
    fn the_same_place_is_named_with_the_port_of_tls() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(sent(443, "http", "/a/../b?x=1&y", "Shop.example:80"), text("https://shop.example/b?x=1&y"));
        assert_eq!(sent(8443, "http", "//evil.example", "[::1]:80"), text("https://[::1]:8443/evil.example"));
        assert_eq!(sent(443, "https", "/", "a"), None);
        assert_eq!(sent(443, "http", "/.well-known/acme-challenge/x", "a"), None);
        assert_eq!(sent(443, "http", "/.well-known/acme-challenge/../x", "a"), text("https://a/.well-known/x"));
    }
}
