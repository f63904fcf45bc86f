//! TLS: what a listener proves itself with, whom we believe of endpoints, the handshakes, and the stream behind them. What is decided
//! about names and validity is in `rules::tls`; keys are read here and go nowhere else.

mod asked;
mod authority;
mod carrier;
mod certificates;
mod clients;
mod greet;
mod handshake;
mod internal;
mod line;
mod session;
mod stream;
mod tickets;
mod upstream;
mod watch;

pub(crate) use authority::Authority;
pub(crate) use carrier::Carrier;
pub(crate) use certificates::{Certificates, Served, now};
pub(crate) use greet::{Failure, Greeting};
pub(crate) use handshake::{Refused, Secured, Shown, accept};
pub(crate) use line::Handshakes;
pub(crate) use stream::TlsStream;
pub(crate) use upstream::{Built as BuiltUpstream, Credentials, Secure, SystemRoots, UpstreamTls, build_upstream};
pub(crate) use watch::{Stamp, follow, stamp};

use arc_swap::ArcSwap;
use clients::Believed;
use penstock_plan::{ClientCertificates, TlsVersion, UnknownName};
use penstock_rules::fault::Fault;
use penstock_rules::tls::Names;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::sync::{Arc, LazyLock};

/// The first byte of every client's first record: a handshake's (RFC 8446 §5.1). No HTTP begins so.
pub(crate) const HANDSHAKE: u8 = 22;
const TLS13_ALONE: &[&SupportedProtocolVersion] = &[&TLS13];
const TLS13_AND_TLS12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The cryptography of all TLS: X25519MLKEM768 is the key exchange preferred, so that what is recorded today stays secret.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The TLS of a listener. Shared by the snapshots whose plans say the same of it, so that tickets outlive a reload.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) plan: penstock_plan::Tls,
    /// Places in `plan.names`.
    names: Names,
    configs: ArcSwap<Configs>,
    certificates: Arc<ArcSwap<Certificates>>,
}

/// What handshakes are held with: one for each that clients can be asked for, with tickets of its own, so that none of a name that asks
/// for nothing is good for one that does (safety.md 139).
#[derive(Debug)]
struct Configs {
    usual: Arc<ServerConfig>,
    /// For each of `plan.names`.
    by_name: Vec<Arc<ServerConfig>>,
}

impl Tls {
    /// TLS that begins with these certificates.
    ///
    /// # Errors
    /// What the library says.
    pub(crate) fn new(plan: &penstock_plan::Tls, certificates: Certificates) -> Result<Tls, rustls::Error> {
        let certificates = Arc::new(ArcSwap::from_pointee(certificates));
        let made = |believed: Option<&Believed>| config(plan, &certificates, believed);
        let current = certificates.load_full();
        let by_name =
            current.believed_by_name.iter().map(|believed| made(believed.as_ref())).collect::<Result<_, _>>()?;
        let configs = ArcSwap::from_pointee(Configs { usual: made(current.believed.as_ref())?, by_name });
        // Where two are the same, the check of the configuration was passed by: the first counts.
        let names = plan.names.iter().map(|one| (std::slice::from_ref(&one.name), ()));
        let names = Names::build(names).unwrap_or_default();
        Ok(Tls { plan: plan.clone(), names, configs, certificates })
    }

    /// What the next handshake is held with, if it names no host, or one of no rule of its own.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.load().usual)
    }

    /// Whether the name decides what a handshake is held with.
    fn asks_by_name(&self) -> bool {
        !self.plan.names.is_empty()
    }

    /// What a handshake is held with that names this host.
    fn config_for(&self, name: Option<&str>) -> Arc<ServerConfig> {
        let configs = self.configs.load();
        Arc::clone(self.rule(name).and_then(|at| configs.by_name.get(at)).unwrap_or(&configs.usual))
    }

    fn rule(&self, name: Option<&str>) -> Option<usize> {
        name.and_then(|name| self.names.find(name).first().copied())
    }

    /// What clients are asked for that name this host.
    fn asked_of(&self, name: Option<&str>) -> Option<&ClientCertificates> {
        match self.rule(name).and_then(|at| self.plan.names.get(at)) {
            Some(rule) => rule.clients.as_ref(),
            None => self.plan.clients.as_ref(),
        }
    }

    /// Whether a client that asked for the one name would get the same certificate for the other. Of a host that no certificate is
    /// for it is not expected, unless such are refused.
    fn is_served_alike(&self, name: &str, other: &str) -> bool {
        let certificates = self.certificates.load();
        let shown = certificates.places(Some(name), self.plan.unknown_name);
        match certificates.names.find(other) {
            [] => self.plan.unknown_name == UnknownName::Default,
            wanted => wanted.iter().any(|place| shown.contains(place)),
        }
    }

    pub(crate) fn certificates(&self) -> Arc<Certificates> {
        self.certificates.load_full()
    }

    /// Let handshakes from now on use these.
    pub(crate) fn renew(&self, certificates: Arc<Certificates>) {
        let before = self.certificates.swap(Arc::clone(&certificates));
        let configs = self.configs.load_full();
        let renewed = |known: &Arc<ServerConfig>, before: Option<&Believed>, now: Option<&Believed>| {
            if before.map(|one| &one.digest) == now.map(|one| &one.digest) {
                return Arc::clone(known);
            }
            // The versions of TLS are those with which this was made, and nothing else can be wrong.
            config(&self.plan, &self.certificates, now).unwrap_or_else(|_| Arc::clone(known))
        };
        let by_name = configs.by_name.iter().zip(&before.believed_by_name).zip(&certificates.believed_by_name);
        let by_name = by_name.map(|((known, before), now)| renewed(known, before.as_ref(), now.as_ref())).collect();
        let usual = renewed(&configs.usual, before.believed.as_ref(), certificates.believed.as_ref());
        self.configs.store(Arc::new(Configs { usual, by_name }));
    }
}

/// What handshakes are held with that ask this of clients.
fn config(
    plan: &penstock_plan::Tls,
    certificates: &Arc<ArcSwap<Certificates>>,
    believed: Option<&Believed>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let resolver = Resolver { certificates: Arc::clone(certificates), unknown_name: plan.unknown_name };
    let versions = match plan.min_version {
        TlsVersion::Tls12 => TLS13_AND_TLS12,
        TlsVersion::Tls13 => TLS13_ALONE,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER)).with_protocol_versions(versions)?;
    let builder = match believed {
        Some(believed) => builder.with_client_cert_verifier(Arc::clone(&believed.verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = plan.alpn.iter().map(|protocol| protocol.name().into()).collect();
    // Tickets need no memory of ours and no lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if plan.tickets {
        config.ticketer = match believed {
            Some(believed) => Arc::clone(&believed.tickets) as Arc<dyn ProducesTickets>,
            None => Arc::new(tickets::Tickets::new()?),
        };
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// TLS, and what it is to serve with from the time on at which its plan runs; `None`: it does already.
pub(crate) type Built = (Arc<Tls>, Option<Arc<Certificates>>);

/// What a plan makes of a listener's TLS: the one that runs already, if it says the same, with the certificates it is to have then.
pub(crate) fn build(plan: &penstock_plan::Tls, known: Option<&Arc<Tls>>, path: &str) -> Result<Built, Vec<Fault>> {
    let fault = |(key, message)| Fault::new(format!("{path}.{key}"), message);
    let certificates = Certificates::read(plan).map_err(|wrong| wrong.into_iter().map(fault).collect::<Vec<_>>())?;
    match known.filter(|known| known.plan == *plan) {
        Some(known) => Ok((Arc::clone(known), Some(Arc::new(certificates)))),
        None => match Tls::new(plan, certificates) {
            Ok(tls) => Ok((Arc::new(tls), None)),
            Err(error) => Err(vec![Fault::new(path, error.to_string())]),
        },
    }
}

/// Chooses a certificate for a client.
#[derive(Debug)]
struct Resolver {
    certificates: Arc<ArcSwap<Certificates>>,
    unknown_name: UnknownName,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.load();
        let places = certificates.places(hello.server_name(), self.unknown_name);
        asked::note(hello.server_name(), places.is_empty());
        let now = now();
        let keys = || places.iter().filter_map(|place| certificates.list.get(*place)).map(|one| one.key(now));
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // With none that fits, the library says so in its alert.
        keys().find(fits).or_else(|| keys().next()).cloned()
    }
}
