//! TLS to endpoints: who is trusted, what we prove ourselves with, and which name an endpoint must prove.

use super::certificates::{Served, Wrong, chain};
use super::watch::{Stamp, stamp};
use super::{Greeting, PROVIDER, TLS13_ALONE, TLS13_AND_TLS12, TlsStream};
use crate::buffers::Buffers;
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use penstock_plan::{TlsVersion, UpstreamProtocol};
use penstock_rules::fault::Fault;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

/// The TLS of an upstream. Shared by the snapshots whose plans say the same of it, so that connections and sessions outlive a reload.
#[derive(Debug)]
pub(crate) struct UpstreamTls {
    /// Unique in the process: connections that were made by other settings are of another (safety.md 72).
    pub(crate) id: u64,
    pub(crate) plan: penstock_plan::UpstreamTls,
    credentials: ArcSwap<Credentials>,
}

/// Whom we believe and what we prove ourselves with, all read at one time.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// For requests.
    http1: Arc<ClientConfig>,
    /// For HTTP/2.
    http2: Arc<ClientConfig>,
    /// For whichever of them the endpoint wants.
    either: Arc<ClientConfig>,
    /// For what is not known: no protocol is named.
    unnamed: Arc<ClientConfig>,
    /// Of all certificates.
    digest: Box<[u8]>,
    /// Of all files, as they were when they were read.
    pub(super) stamps: Vec<Stamp>,
}

/// TLS, and what it is to speak with from the time on at which its plan runs; `None`: it does already.
pub(crate) type Built = (Arc<UpstreamTls>, Option<Arc<Credentials>>);

/// The authorities that this machine trusts, read when somebody needs them.
#[derive(Default)]
pub(crate) struct SystemRoots(OnceCell<Result<Vec<CertificateDer<'static>>, String>>);

impl SystemRoots {
    fn read(&self) -> Result<&[CertificateDer<'static>], String> {
        let read = self.0.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            if !found.certs.is_empty() {
                return Ok(found.certs);
            }
            let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            Err(format!(
                "this machine trusts no authority{reason}: install its certificates, or give a file of your own"
            ))
        });
        read.as_deref().map_err(Clone::clone)
    }
}

/// What a plan makes of an upstream's TLS: the one that runs already, if it says the same.
pub(crate) fn build_upstream(
    plan: &penstock_plan::UpstreamTls,
    known: Option<&Arc<UpstreamTls>>,
    roots: &SystemRoots,
    (id, path): (impl FnOnce() -> u64, &str),
) -> Result<Built, Vec<Fault>> {
    let fault = |(key, message)| Fault::new(format!("{path}.{key}"), message);
    let read = Credentials::read(plan, roots);
    let credentials = read.map_err(|wrong| wrong.into_iter().map(fault).collect::<Vec<_>>())?;
    Ok(match known.filter(|known| known.plan == *plan) {
        Some(known) => (Arc::clone(known), Some(Arc::new(credentials))),
        None => {
            let credentials = ArcSwap::from_pointee(credentials);
            (Arc::new(UpstreamTls { id: id(), plan: plan.clone(), credentials }), None)
        }
    })
}

impl UpstreamTls {
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    /// Let handshakes from now on use these. Where they are those before, so do the connections that there are.
    pub(crate) fn renew(&self, fresh: &Arc<Credentials>) {
        let before = self.credentials();
        let next = if before.digest == fresh.digest {
            Arc::new(Credentials { stamps: fresh.stamps.clone(), ..(*before).clone() })
        } else {
            Arc::clone(fresh)
        };
        self.credentials.store(next);
    }

    /// Of all files, as they are now.
    pub(super) fn current_stamps(&self) -> Vec<Stamp> {
        stamps(&self.plan)
    }

    /// Its files, for a message.
    pub(super) fn paths(&self) -> String {
        files(&self.plan).collect::<Vec<_>>().join(", ")
    }
}

fn files(plan: &penstock_plan::UpstreamTls) -> impl Iterator<Item = &str> {
    let own = plan.certificate.iter().flat_map(|own| [own.cert.as_str(), own.key.as_str()]);
    plan.ca.as_deref().into_iter().chain(own)
}

fn stamps(plan: &penstock_plan::UpstreamTls) -> Vec<Stamp> {
    files(plan).map(stamp).collect()
}

impl Credentials {
    /// Read all files.
    ///
    /// # Errors
    /// Everything wrong with any of them.
    pub(super) fn read(plan: &penstock_plan::UpstreamTls, roots: &SystemRoots) -> Result<Credentials, Vec<Wrong>> {
        // Before the files are read: a change in between is seen at the next look.
        let stamps = stamps(plan);
        let mut digest = Context::new(&SHA256);
        let trusted = trusted(plan, roots, &mut digest);
        let own = plan.certificate.as_ref().map(Served::read).transpose();
        let (trusted, own) = match (trusted, own) {
            (Ok(trusted), Ok(own)) => (trusted, own),
            (trusted, own) => {
                let own = own.err().unwrap_or_default();
                return Err(trusted.err().into_iter().chain(own).collect());
            }
        };
        own.iter().flat_map(|own| &own.key.cert).for_each(|part| digest.update(part));
        let versions = match plan.min_version {
            TlsVersion::Tls12 => TLS13_AND_TLS12,
            TlsVersion::Tls13 => TLS13_ALONE,
        };
        let unusable = |error: Error| vec![("ca".to_owned(), error.to_string())];
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER));
        let builder = builder.with_protocol_versions(versions).map_err(unusable)?;
        let builder = match trusted {
            Some(trusted) => builder.with_root_certificates(trusted),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate)),
        };
        let unnamed = match own {
            Some(own) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(own.key))))
            }
            None => builder.with_no_client_auth(),
        };
        let mut http1 = unnamed.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = http1.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let mut either = http1.clone();
        either.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let digest = digest.finish().as_ref().into();
        let [http1, http2, either, unnamed] = [http1, http2, either, unnamed].map(Arc::new);
        Ok(Credentials { http1, http2, either, unnamed, digest, stamps })
    }
}

/// Whom we believe; `None`: everybody.
fn trusted(
    plan: &penstock_plan::UpstreamTls,
    system: &SystemRoots,
    digest: &mut Context,
) -> Result<Option<RootCertStore>, Wrong> {
    if plan.insecure {
        return Ok(None);
    }
    let wrong = |message: String| ("ca".to_owned(), message);
    let mut roots = RootCertStore::empty();
    match &plan.ca {
        Some(path) => {
            for part in chain(path).map_err(wrong)? {
                digest.update(&part);
                roots.add(part).map_err(|_| wrong(format!("{path} holds what is no X.509 certificate")))?;
            }
        }
        None => {
            // What a machine trusts is its owner's affair: what cannot be read of it is left out.
            for part in system.read().map_err(wrong)? {
                digest.update(part);
                roots.add_parsable_certificates([part.clone()]);
            }
        }
    }
    Ok(Some(roots))
}

/// One endpoint's TLS: the upstream's, and the name that the endpoint must prove.
#[derive(Debug)]
pub(crate) struct Secure {
    tls: Arc<UpstreamTls>,
    name: ServerName<'static>,
}

impl Secure {
    /// For the endpoint at `address`; `None`: it has no name that a certificate could be for.
    pub(crate) fn new(tls: &Arc<UpstreamTls>, address: &str) -> Option<Secure> {
        let host = match (&tls.plan.name, address.rsplit_once(':')) {
            (Some(name), _) => name,
            (None, Some((host, _))) if host != "unix" => host,
            _ => return None,
        };
        Secure::named(tls, host)
    }

    /// For one that has to be this host.
    pub(crate) fn named(tls: &Arc<UpstreamTls>, host: &str) -> Option<Secure> {
        let host = host.trim_start_matches('[').trim_end_matches([']', '.']);
        let name = ServerName::try_from(host.to_owned()).ok()?;
        Some(Secure { tls: Arc::clone(tls), name })
    }

    /// What a connection begins with on which this is to be spoken; nothing: whatever the two ends of a session speak.
    pub(crate) fn greeting(&self, protocol: impl Into<Option<UpstreamProtocol>>, buffers: &Rc<Buffers>) -> Greeting {
        let credentials = self.tls.credentials.load();
        let config = match protocol.into() {
            Some(UpstreamProtocol::Http1 | UpstreamProtocol::H2c) => &credentials.http1,
            Some(UpstreamProtocol::H2) => &credentials.http2,
            Some(UpstreamProtocol::Auto) => &credentials.either,
            None => &credentials.unnamed,
        };
        Greeting { name: self.name.clone(), config: Arc::clone(config), buffers: Rc::clone(buffers) }
    }

    /// Whether a connection was made with what is believed and proved now.
    pub(crate) fn is_current(&self, stream: &TlsStream) -> bool {
        let Credentials { http1, http2, either, .. } = &**self.tls.credentials.load();
        [http1, http2, either].into_iter().any(|config| stream.is_of(config))
    }
}

/// Believes any certificate, but only to whoever has its key.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
