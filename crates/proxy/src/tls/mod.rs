//! TLS: what a listener proves itself with, whom we believe of endpoints, the handshakes, and the stream behind them. What is decided
//! about names and validity is in `rules::tls`; keys are read here and go nowhere else.

mod asked;
mod certificates;
mod clients;
mod greet;
mod handshake;
mod session;
mod stream;
mod tickets;
mod upstream;
mod watch;

pub(crate) use certificates::{Certificates, Served, now};
pub(crate) use greet::{Failure, Greeting};
pub(crate) use handshake::{Refused, Secured, accept};
pub(crate) use stream::TlsStream;
pub(crate) use upstream::{Credentials, Secure, SystemRoots, UpstreamTls, build_upstream};
pub(crate) use watch::follow;

use arc_swap::ArcSwap;
use penstock_plan::{TlsVersion, UnknownName};
use penstock_rules::fault::Fault;
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
    config: ArcSwap<ServerConfig>,
    certificates: Arc<ArcSwap<Certificates>>,
}

impl Tls {
    /// TLS that begins with these certificates.
    ///
    /// # Errors
    /// What the library says.
    pub(crate) fn new(plan: &penstock_plan::Tls, certificates: Certificates) -> Result<Tls, rustls::Error> {
        let certificates = Arc::new(ArcSwap::from_pointee(certificates));
        let config = ArcSwap::from_pointee(config(plan, &certificates)?);
        Ok(Tls { plan: plan.clone(), config, certificates })
    }

    /// What the next handshake is held with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    pub(crate) fn certificates(&self) -> Arc<Certificates> {
        self.certificates.load_full()
    }

    /// Let handshakes from now on use these.
    pub(crate) fn renew(&self, certificates: Arc<Certificates>) {
        let digest =
            |certificates: &Certificates| certificates.believed.as_ref().map(|believed| believed.digest.clone());
        let same = digest(&self.certificates()) == digest(&certificates);
        self.certificates.store(certificates);
        // The versions of TLS are those with which this was made, and nothing else can be wrong.
        if !same && let Ok(config) = config(&self.plan, &self.certificates) {
            self.config.store(Arc::new(config));
        }
    }
}

/// What handshakes are held with, as the files are now.
fn config(plan: &penstock_plan::Tls, certificates: &Arc<ArcSwap<Certificates>>) -> Result<ServerConfig, rustls::Error> {
    let resolver = Resolver { certificates: Arc::clone(certificates), unknown_name: plan.unknown_name };
    let versions = match plan.min_version {
        TlsVersion::Tls12 => TLS13_AND_TLS12,
        TlsVersion::Tls13 => TLS13_ALONE,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER)).with_protocol_versions(versions)?;
    let current = certificates.load();
    let builder = match &current.believed {
        Some(believed) => builder.with_client_cert_verifier(Arc::clone(&believed.verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = plan.alpn.iter().map(|protocol| protocol.name().into()).collect();
    // Tickets need no memory of ours and no lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = match &current.believed {
        Some(believed) => Arc::clone(&believed.tickets) as Arc<dyn ProducesTickets>,
        None => Arc::new(tickets::Tickets::new()?),
    };
    Ok(config)
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
        asked::note(hello.server_name());
        let certificates = self.certificates.load();
        let found = hello.server_name().map(|name| certificates.names.find(name)).unwrap_or_default();
        let places = match (found, self.unknown_name) {
            ([], UnknownName::Refuse) => return None,
            ([], UnknownName::Default) => &certificates.default,
            (found, _) => found,
        };
        let keys = || places.iter().filter_map(|place| certificates.list.get(*place)).map(|one| &one.key);
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // With none that fits, the library says so in its alert.
        keys().find(fits).or_else(|| keys().next()).cloned()
    }
}
