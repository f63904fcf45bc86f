//! TLS: where certificates and keys are found. What they hold is never part of a plan: the data plane reads them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a listener proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// At least one; the first is the default.
    pub certificates: Vec<Certificate>,
    /// What a client gets that names nobody, or somebody whom no certificate is good for.
    pub unknown_name: UnknownName,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// What is spoken behind the handshake (ALPN), the first preferred. A client that offers nothing speaks HTTP/1.1.
    pub alpn: Vec<Alpn>,
    /// Whether clients get tickets, which spare them most of the next handshake (RFC 8446 §4.6.1, RFC 5077).
    pub tickets: bool,
    /// Which certificates clients are asked for. `null`: they are asked for none.
    pub clients: Option<ClientCertificates>,
    /// Names for which something else is asked of clients.
    pub names: Vec<ServerName>,
    /// Where the only certificate is of our own making, for development: how it is made. `null`: people brought theirs.
    pub internal: Option<Internal>,
}

/// A local authority, and whom its certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Internal {
    /// Folder of the authority, an absolute path. It is made if it is missing.
    pub folder: String,
    /// Hosts in lower case, and addresses.
    pub names: Vec<String>,
}

/// What clients are asked for that name this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerName {
    /// A host in lower case, or `*.` and the rest of one.
    pub name: String,
    /// Which certificates clients are asked for. `null`: they are asked for none.
    pub clients: Option<ClientCertificates>,
}

/// A protocol that a client can ask for in its handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Alpn {
    /// HTTP/2.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http11,
}

impl Alpn {
    /// As it is registered.
    pub fn name(self) -> &'static str {
        match self {
            Alpn::H2 => "h2",
            Alpn::Http11 => "http/1.1",
        }
    }
}

/// How clients prove who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// File of the authorities whose certificates are believed.
    pub ca: String,
    /// File of what they have revoked. `null`: nobody looks.
    pub crl: Option<String>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// A certificate with its chain, and its key, in PEM files of these absolute paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The certificate, and behind it those that lead to one that clients know.
    pub cert: String,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: String,
    /// Whether it is all right that every user of the machine can read the key.
    pub readable_key: bool,
    /// File of what its issuer says of its revocation (OCSP, in DER), for clients. `null`: they are told nothing.
    pub ocsp: Option<String>,
}

/// How endpoints are spoken to with TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// File of the authorities that are trusted. `null`: those that this machine trusts.
    pub ca: Option<String>,
    /// The name that is asked for (SNI) and that the certificate must be for. `null`: the endpoint's host.
    pub name: Option<String>,
    /// What we prove ourselves with, where an endpoint asks for that.
    pub certificate: Option<Certificate>,
    /// Whether any certificate is taken.
    pub insecure: bool,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// What is done where no certificate is good for the name that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownName {
    /// It gets the first certificate.
    Default,
    /// The handshake ends with an alert.
    Refuse,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}
