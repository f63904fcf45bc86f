//! What a forward proxy answers to a client that asks for something of its own: who is served gets to know how.

use super::Story;
use crate::codec::Downstream;
use penstock_rules::error::{Error, Kind};
use penstock_rules::forward::{About, Help, Reached, pac, page};
use penstock_rules::http::{RequestHead, ResponseHead};

/// A page from us loads nothing and is shown in no other.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

impl Story<'_> {
    /// Answer a request whose target is a path, which names no origin.
    pub(super) async fn help(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        let forward = self.exchange.listener.forward.as_deref().ok_or(Kind::Internal)?;
        forward.leave.client(self.client)?;
        let help = Help::at(request.path()).ok_or(Kind::NoRoute)?;
        if !matches!(request.method(), "GET" | "HEAD") {
            return Err(Kind::MethodNotAllowed.into());
        }
        let tls = self.exchange.origin.secured.is_some();
        let port = request.port().unwrap_or(if tls { 443 } else { 80 });
        let reached = Reached { host: request.host(), port, tls };
        let authority = forward.interception.as_ref().map(|interception| &interception.authority);
        let about = About {
            users: forward.users.is_some(),
            private: forward.plan.allow_private,
            authority: authority.is_some(),
        };
        let body = match (help, authority) {
            (Help::Authority, None) => return Err(Kind::NoRoute.into()),
            (Help::Authority, Some(authority)) => authority.pem.clone(),
            // HTTP/1.0 does not say how it came here.
            _ if reached.host.is_empty() => return Err(Kind::BadHost.into()),
            (Help::Pac, _) => pac(reached, about),
            (Help::Page, _) => page(reached, about),
        };
        response.compose(200);
        response.fields.push("content-type", help.content_type());
        response.fields.push("cache-control", "no-store");
        response.fields.push("x-content-type-options", "nosniff");
        if help == Help::Page {
            response.fields.push("content-security-policy", POLICY);
        }
        self.answer(down, request, response, body.as_bytes()).await
    }
}
