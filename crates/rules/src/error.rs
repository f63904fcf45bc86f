//! What can go wrong with one exchange: what, whose fault, and whether to try again. Only `respond.rs` turns it into an answer.

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The endpoint's.
    Upstream,
    /// Ours, or the configuration's.
    Proxy,
}

/// Whether the same request may be sent once more (safety.md R10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may have been acted on, and that matters.
    Never,
    /// No byte of it reached an endpoint.
    Always,
    /// It was sent, no byte of an answer came: only what may be repeated.
    Idempotent,
}

/// One failure of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What happened.
    pub kind: Kind,
    /// Whether to try again.
    pub retry: Retry,
}

impl Error {
    /// Whose fault it is.
    pub fn side(self) -> Side {
        self.kind.side()
    }
}

impl From<Kind> for Error {
    /// A failure that is not tried again.
    fn from(kind: Kind) -> Error {
        Error { kind, retry: Retry::Never }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident $word:literal $status:literal $side:ident,)+) => {
        /// What happened. Each has a stable word for logs and counters and the status that a client gets for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])+ $name,)+ }

        impl Kind {
            /// Every kind, in the order of [`Kind::index`].
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)+];

            /// Place in [`Kind::ALL`], for counters.
            pub fn index(self) -> usize { self as usize }

            /// The word used in logs and counters.
            pub fn word(self) -> &'static str { match self { $(Kind::$name => $word,)+ } }

            /// What the client is told, where it can still be told.
            pub fn status(self) -> u16 { match self { $(Kind::$name => $status,)+ } }

            /// Whose fault it is.
            pub fn side(self) -> Side { match self { $(Kind::$name => Side::$side,)+ } }
        }
    };
}

kinds! {
    /// A request head that breaks RFC 9112.
    BadHead "bad_head" 400 Downstream,
    /// A version that is not HTTP/1.0 or HTTP/1.1.
    BadVersion "bad_version" 505 Downstream,
    /// No, more than one, or an impossible `Host`.
    BadHost "bad_host" 400 Downstream,
    /// A target that is no resource, or that two readers would read differently.
    BadUri "bad_uri" 400 Downstream,
    /// `Content-Length` that is no single number, or not alone.
    BadContentLength "bad_content_length" 400 Downstream,
    /// `Transfer-Encoding` other than `chunked`, or where it may not be.
    BadTransferEncoding "bad_transfer_encoding" 400 Downstream,
    /// `Connection` that names a field it may not.
    BadConnection "bad_connection" 400 Downstream,
    /// `Expect` other than `100-continue`.
    BadExpect "bad_expect" 417 Downstream,
    /// A chunk that breaks RFC 9112 §7.1.
    BadChunk "bad_chunk" 400 Downstream,
    /// A head beyond its limit of bytes.
    HeadTooLarge "head_too_large" 431 Downstream,
    /// A head beyond its limit of fields.
    TooManyFields "too_many_fields" 431 Downstream,
    /// A target beyond its limit.
    UriTooLong "uri_too_long" 414 Downstream,
    /// A body beyond its limit.
    BodyTooLarge "body_too_large" 413 Downstream,
    /// A body that a route asks for a JSON value, and that is no JSON.
    BadJson "bad_json" 400 Downstream,
    /// A protocol on a stream of HTTP/2 other than `websocket`, or an upgrade that has no form there.
    UnknownProtocol "unknown_protocol" 501 Downstream,
    /// `CONNECT` or `TRACE`.
    MethodNotAllowed "method_not_allowed" 405 Downstream,
    /// The head did not come in time.
    HeadTimeout "head_timeout" 408 Downstream,
    /// Frames, or a message in them, that break RFC 9113.
    BadFrame "bad_frame" 400 Downstream,
    /// Frames that cost more than the requests in them are worth.
    FrameFlood "frame_flood" 400 Downstream,
    /// No PROXY protocol header from one who must begin with one.
    ProxyHeaderMissing "proxy_header_missing" 400 Downstream,
    /// A PROXY protocol header that is none.
    ProxyHeaderBad "proxy_header_bad" 400 Downstream,
    /// The PROXY protocol header did not come in time.
    ProxyHeaderTimeout "proxy_header_timeout" 408 Downstream,
    /// TLS where plain HTTP is spoken.
    TlsOnPlain "tls_on_plain" 400 Downstream,
    /// Plain HTTP where TLS is spoken.
    PlainOnTls "plain_on_tls" 400 Downstream,
    /// The TLS handshake did not come to its end in time.
    TlsTimeout "tls_timeout" 408 Downstream,
    /// The client's TLS breaks the protocol, or it wants none of ours.
    TlsFailed "tls_failed" 400 Downstream,
    /// No certificate is good for the name that the client asked for.
    TlsName "tls_name" 421 Downstream,
    /// The client offers only protocols (ALPN) that are not spoken here.
    TlsProtocol "tls_protocol" 400 Downstream,
    /// The client has shown no certificate where one is required, or one that is not believed.
    TlsClient "tls_client_certificate" 400 Downstream,
    /// The client does not take the certificate by which we stand for the origin of its tunnel.
    CertificateRefused "certificate_refused" 400 Downstream,
    /// It took longest of as many handshakes as may be under way.
    TooManyHandshakes "too_many_handshakes" 503 Downstream,
    /// The connection was made for another name, or when clients had to prove something else.
    Misdirected "misdirected" 421 Downstream,
    /// The body stopped coming.
    BodyTimeout "body_timeout" 408 Downstream,
    /// The body came slower than the least rate allowed.
    BodyTooSlow "body_too_slow" 408 Downstream,
    /// The client stopped reading.
    ClientWriteTimeout "client_write_timeout" 499 Downstream,
    /// The client read slower than the least rate allowed.
    ClientTooSlow "client_too_slow" 499 Downstream,
    /// The client went away.
    ClientClosed "client_closed" 499 Downstream,
    /// Too many connections at once.
    TooManyConnections "too_many_connections" 503 Downstream,
    /// Too many connections at once from one client.
    TooManyPerClient "too_many_per_client" 503 Downstream,
    /// New connections came faster than the listener may take them.
    ConnectionRate "connection_rate" 503 Downstream,
    /// New connections came faster than one client may make them.
    ConnectionRatePerClient "connection_rate_per_client" 503 Downstream,
    /// New sessions of datagrams came faster than they may.
    SessionRate "session_rate" 503 Downstream,
    /// More connections than there are descriptors for.
    OutOfDescriptors "out_of_descriptors" 503 Downstream,
    /// Memory is at its limit.
    Overloaded "overloaded" 503 Downstream,
    /// The forward proxy does not serve this client.
    ClientForbidden "client_forbidden" 403 Downstream,
    /// The client has not said who it is, as the forward proxy wants.
    UserMissing "user_missing" 407 Downstream,
    /// It is no user, or that is not the password.
    UserRefused "user_refused" 407 Downstream,
    /// It tries passwords faster than a client may.
    GuessRate "guess_rate" 407 Downstream,
    /// As many passwords wait to be looked at as may.
    UsersBusy "users_busy" 503 Proxy,
    /// The forward proxy does not go to this port.
    PortForbidden "port_forbidden" 403 Downstream,
    /// The forward proxy does not go to this address, or to any that the name has.
    AddressForbidden "address_forbidden" 403 Downstream,
    /// A rule of the forward proxy refuses the request. Which status it is answered with, the rule says.
    RuleDenied "rule_denied" 403 Downstream,
    /// SOCKS that is none, or asks for what a forward proxy does not do.
    BadSocks "bad_socks" 400 Downstream,
    /// The request has passed this forward proxy before.
    Loop "loop" 508 Downstream,
    /// The name in the request has no address.
    NameUnresolved "name_unresolved" 502 Upstream,
    /// The parent of a forward proxy did not open the way to the origin, or wants to know who we are.
    ParentRefused "parent_refused" 502 Upstream,
    /// Nothing matched.
    NoRoute "no_route" 404 Proxy,
    /// The route is in maintenance, and the request is none that passes nevertheless.
    Maintenance "maintenance" 503 Proxy,
    /// No endpoint may take the request.
    NoEndpoint "no_endpoint" 503 Proxy,
    /// Every endpoint that could take the request has as many as it may, and no more may wait.
    QueueFull "queue_full" 503 Proxy,
    /// The upstream has as many connections, waiting requests or requests under way as it may.
    UpstreamFull "upstream_full" 503 Proxy,
    /// No place at an endpoint became free in time.
    QueueTimeout "queue_timeout" 503 Proxy,
    /// The endpoint refused the connection.
    ConnectRefused "connect_refused" 502 Upstream,
    /// The endpoint did not accept the connection in time.
    ConnectTimeout "connect_timeout" 504 Upstream,
    /// The connection could not be made for another reason.
    ConnectFailed "connect_failed" 502 Upstream,
    /// The endpoint's certificate is not valid: another name, an unknown authority, out of its time.
    UpstreamCertificate "upstream_certificate" 502 Upstream,
    /// The TLS handshake with the endpoint failed, or TLS broke.
    UpstreamTlsFailed "upstream_tls_failed" 502 Upstream,
    /// The TLS handshake with the endpoint did not come to its end in time.
    UpstreamTlsTimeout "upstream_tls_timeout" 504 Upstream,
    /// The endpoint's name has no address.
    Unresolved "unresolved" 503 Upstream,
    /// The endpoint closed before it answered.
    UpstreamClosed "upstream_closed" 502 Upstream,
    /// The endpoint reset the stream before it answered.
    UpstreamReset "upstream_reset" 502 Upstream,
    /// The endpoint reset the stream because it did not begin with it.
    UpstreamRefused "upstream_refused" 503 Upstream,
    /// The endpoint closed in the middle of its answer.
    UpstreamCut "upstream_cut" 502 Upstream,
    /// The response head did not come in time.
    UpstreamHeadTimeout "upstream_head_timeout" 504 Upstream,
    /// The response body stopped coming.
    UpstreamBodyTimeout "upstream_body_timeout" 504 Upstream,
    /// The endpoint answered with a status for which another one is asked.
    UpstreamStatus "upstream_status" 502 Upstream,
    /// The endpoint stopped reading.
    UpstreamWriteTimeout "upstream_write_timeout" 504 Upstream,
    /// A response that breaks RFC 9112.
    BadResponse "bad_response" 502 Upstream,
    /// A response head beyond its limits.
    ResponseTooLarge "response_too_large" 502 Upstream,
    /// `101` that nobody asked for.
    BadUpgrade "bad_upgrade" 502 Upstream,
    /// The endpoint speaks HTTP/2, and has no WebSockets there.
    UpgradeUnsupported "upgrade_unsupported" 501 Proxy,
    /// No descriptor or memory is left for a connection.
    Exhausted "exhausted" 503 Proxy,
    /// The whole exchange took longer than the route allows.
    TotalTimeout "total_timeout" 504 Proxy,
    /// A filter left a path that is none.
    BadRewrite "bad_rewrite" 500 Proxy,
    /// A template made more of the request's values than an answer may hold.
    TemplateTooLarge "template_too_large" 400 Downstream,
    /// An add-on raised, or returned what it may not.
    AddonFailed "addon_failed" 500 Proxy,
    /// An add-on did not answer in time.
    AddonTimeout "addon_timeout" 503 Proxy,
    /// An add-on had no room for one more call.
    AddonBusy "addon_busy" 503 Proxy,
    /// The service that authenticates cannot be asked: none of its endpoints may be.
    AuthUnavailable "auth_unavailable" 503 Proxy,
    /// The service that authenticates gave no answer, or one that is none.
    AuthFailed "auth_failed" 502 Upstream,
    /// The service that authenticates did not answer in time.
    AuthTimeout "auth_timeout" 504 Upstream,
    /// An upgraded connection was silent too long.
    TunnelIdle "tunnel_idle" 499 Proxy,
    /// A defect of ours.
    Internal "internal" 500 Proxy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_statuses_are_errors() {
        let mut words: Vec<_> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().enumerate().all(|(at, kind)| kind.index() == at && kind.status() >= 400));
    }
}
