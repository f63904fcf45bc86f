//! Certificates and keys, from files to what a handshake uses. No message holds anything of a key.

use super::clients::{Believed, files};
use super::watch::{Stamp, stamp};
use super::{PROVIDER, internal};
use penstock_plan::{Certificate as Paths, ClientCertificates, UnknownName};
use penstock_rules::tls::{Certificate, Names, Staple, UnixSeconds, Unusable};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longer files are a mistake in the path.
const LONGEST: u64 = 1 << 20;
/// So many days before its end a certificate is warned of.
const SOON: i64 = 7;

/// The certificates of a listener, all read at one time.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) list: Vec<Served>,
    pub(crate) names: Names,
    /// Those for a client whose name nobody is good for: the first, and others for a name of it.
    pub(crate) default: Vec<usize>,
    /// Which clients are believed, where they are asked.
    pub(super) believed: Option<Believed>,
    /// The same for each name of the plan that asks for something else.
    pub(super) believed_by_name: Vec<Option<Believed>>,
    /// Of all files, as they were when they were read.
    pub(super) stamps: Vec<Stamp>,
}

/// One certificate and its key.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) certificate: Certificate,
    pub(crate) paths: Paths,
    pub(crate) kind: KeyKind,
    /// What its issuer says of its revocation.
    pub(crate) staple: Option<Stapled>,
}

/// What clients are told of a certificate's revocation, for as long as that counts.
#[derive(Debug)]
pub(crate) struct Stapled {
    key: Arc<CertifiedKey>,
    pub(crate) staple: Staple,
}

/// Kinds of keys, the one first that costs us least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyKind {
    Ecdsa,
    Ed25519,
    Rsa,
}

/// What is wrong, at which key of the plan.
pub(super) type Wrong = (String, String);

impl Certificates {
    /// Read all files.
    ///
    /// # Errors
    /// Everything wrong with any of them.
    pub(crate) fn read(plan: &penstock_plan::Tls) -> Result<Certificates, Vec<Wrong>> {
        if let (Some(plan), Some(leaf)) = (&plan.internal, plan.certificates.first()) {
            internal::provide(plan, leaf).map_err(|message| vec![("internal".to_owned(), message)])?;
        }
        // Before the files are read: a change in between is seen at the next look.
        let stamps = stamps(plan);
        let (mut list, mut wrong) = (Vec::new(), Vec::new());
        for (at, paths) in plan.certificates.iter().enumerate() {
            match Served::read(paths) {
                Ok(served) => list.push(served),
                Err(found) => {
                    wrong
                        .extend(found.into_iter().map(|(key, message)| (format!("certificates[{at}].{key}"), message)));
                }
            }
        }
        let mut believe = |clients: Option<&ClientCertificates>, path: &str| {
            let believed = clients.map(|clients| Believed::read(clients, path)).transpose();
            believed.map_err(|found| wrong.extend(found)).ok().flatten()
        };
        let believed = believe(plan.clients.as_ref(), "clients");
        let by_name = plan.names.iter();
        let believed_by_name: Vec<_> =
            by_name.map(|one| believe(one.clients.as_ref(), &format!("names.{:?}.clients", one.name))).collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let names = Names::build(list.iter().map(|one| (one.certificate.names.as_slice(), one.kind)));
        let names = names.map_err(|overlaps| {
            let message = |overlap: &penstock_rules::tls::Overlap| {
                let (first, second) = (overlap.first, overlap.second);
                let message = format!(
                    "is for {:?}, as certificates[{first}] is, and both keys are {}: which one to use cannot be told; leave one out",
                    overlap.name,
                    list.get(first).map_or("", |one| one.kind.word()),
                );
                (format!("certificates[{second}].cert"), message)
            };
            overlaps.iter().map(message).collect::<Vec<_>>()
        })?;
        // A rule for a name that nobody can ask for protects nothing.
        let nameless = plan.names.iter().filter(|one| names.find(&one.name).is_empty());
        let nameless: Vec<Wrong> = nameless
            .map(|one| (format!("names.{:?}", one.name), "no certificate of this listener is for that name".to_owned()))
            .collect();
        if !nameless.is_empty() {
            return Err(nameless);
        }
        let first = list.first().map(|one| one.certificate.names.clone()).unwrap_or_default();
        let shares = |one: &Served| one.certificate.names.iter().any(|name| first.contains(name));
        let mut default: Vec<usize> =
            list.iter().enumerate().filter(|(at, one)| *at == 0 || shares(one)).map(|(at, _)| at).collect();
        default.sort_by_key(|at| list.get(*at).map(|one| one.kind));
        Ok(Certificates { list, names, default, believed, believed_by_name, stamps })
    }

    /// Where the certificates are that a client gets who asks for `name`.
    pub(super) fn places(&self, name: Option<&str>, unknown: UnknownName) -> &[usize] {
        match (name.map(|name| self.names.find(name)).unwrap_or_default(), unknown) {
            ([], UnknownName::Refuse) => &[],
            ([], UnknownName::Default) => &self.default,
            (found, _) => found,
        }
    }

    /// Whether one of our own making is to be made anew.
    pub(super) fn is_due(&self) -> bool {
        self.list.first().is_some_and(|one| internal::is_due(&one.certificate, now()))
    }

    /// The files of certificates, for a message.
    pub(super) fn paths(&self) -> String {
        self.list.iter().map(|one| one.paths.cert.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// What is doubtful about them now, at which key of the plan.
    pub(crate) fn doubts(&self, now: UnixSeconds) -> Vec<Wrong> {
        let doubts = self.list.iter().enumerate().filter_map(|(at, one)| {
            let (certificate, key) = (&one.certificate, format!("certificates[{at}].cert"));
            let cert = &one.paths.cert;
            match certificate.days_left(now) {
                _ if now < certificate.not_before => {
                    Some((key, format!("{cert} is not valid yet: clients will refuse it")))
                }
                left @ ..0 => Some((key, format!("{cert} has expired {} days ago: clients will refuse it", -left))),
                left @ 0..SOON => Some((key, format!("{cert} expires in {left} days"))),
                _ if certificate.names.is_empty() => {
                    Some((key, format!("{cert} names no host: clients will refuse it")))
                }
                _ => None,
            }
        });
        let doubts: Vec<Wrong> = doubts.collect();
        doubts.into_iter().chain(self.stale(now)).collect()
    }

    /// Statements of revocation that are not stapled, because they do not count now.
    pub(super) fn stale(&self, now: UnixSeconds) -> Vec<Wrong> {
        let stale = self.list.iter().enumerate();
        stale.filter_map(|(at, one)| Some((format!("certificates[{at}].ocsp"), one.stale(now)?))).collect()
    }
}

/// Of all files, as they are now.
pub(super) fn stamps(plan: &penstock_plan::Tls) -> Vec<Stamp> {
    let own = plan.certificates.iter().flat_map(|paths| {
        [Some(paths.cert.as_str()), Some(paths.key.as_str()), paths.ocsp.as_deref()].into_iter().flatten()
    });
    let by_name = plan.names.iter().flat_map(|one| files(one.clients.as_ref()));
    own.chain(files(plan.clients.as_ref())).chain(by_name).map(stamp).collect()
}

/// Seconds since 1970.
pub(crate) fn now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl Served {
    /// Read a certificate and its key.
    ///
    /// # Errors
    /// Everything wrong with either.
    pub(super) fn read(paths: &Paths) -> Result<Served, Vec<Wrong>> {
        let (chain, key) = (chain(&paths.cert), private_key(paths));
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => {
                let at = |name: &str, message: Option<String>| message.map(|message| (name.to_owned(), message));
                return Err([at("cert", chain.err()), at("key", key.err())].into_iter().flatten().collect());
            }
        };
        let cert = |message: String| vec![("cert".to_owned(), message)];
        let certificate = match chain.first().map(|leaf| Certificate::parse(leaf)) {
            Some(Ok(certificate)) => certificate,
            _ => return Err(cert(format!("{} is no X.509 certificate", paths.cert))),
        };
        let wrong_key = |message: String| vec![("key".to_owned(), message)];
        let key = PROVIDER.key_provider.load_private_key(key).map_err(|_| {
            wrong_key(format!("{} holds a key of a kind that TLS does not use; use ECDSA (P-256) or RSA", paths.key))
        })?;
        let kind = KeyKind::of(key.algorithm());
        let key = CertifiedKey::new(chain, key);
        let staple = paths.ocsp.as_deref().map(|path| Stapled::read(path, &certificate, &key));
        let staple = staple.transpose().map_err(|message| vec![("ocsp".to_owned(), message)])?;
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(wrong_key(format!("{} is not the key of the certificate in {}", paths.key, paths.cert)));
            }
            Err(_) => return Err(cert(format!("{} is no X.509 certificate", paths.cert))),
        }
        Ok(Served { key: Arc::new(key), certificate, paths: paths.clone(), kind, staple })
    }

    /// What a handshake is held with now: a statement that has run out is not stapled.
    pub(super) fn key(&self, now: UnixSeconds) -> &Arc<CertifiedKey> {
        match &self.staple {
            Some(stapled) if stapled.staple.is_fresh(now) => &stapled.key,
            _ => &self.key,
        }
    }

    /// What is wrong with what clients are told of its revocation.
    fn stale(&self, now: UnixSeconds) -> Option<String> {
        let (staple, path) = (&self.staple.as_ref()?.staple, self.paths.ocsp.as_deref()?);
        let since = now.saturating_sub(staple.next_update) / 3600;
        match now {
            _ if staple.is_fresh(now) => None,
            _ if now < staple.this_update => Some(format!("{path} does not count yet: it is not stapled")),
            _ => Some(format!("{path} has run out {since} h ago: it is not stapled; fetch a new one from the issuer")),
        }
    }
}

impl Stapled {
    fn read(path: &str, certificate: &Certificate, key: &CertifiedKey) -> Result<Stapled, String> {
        let (der, _) = read(path)?;
        let staple = Staple::parse(&der, &certificate.serial).map_err(|unusable| match unusable {
            Unusable::Malformed => format!("{path} is no OCSP response in DER"),
            Unusable::Failed => format!("{path} says only that the issuer could not answer"),
            Unusable::OtherCertificate => format!("{path} says nothing of this certificate"),
            Unusable::NotGood => format!("{path} says that the certificate is revoked or unknown"),
            Unusable::Endless => format!("{path} does not say until when it counts"),
        })?;
        let key = CertifiedKey { ocsp: Some(der), ..key.clone() };
        Ok(Stapled { key: Arc::new(key), staple })
    }
}

impl KeyKind {
    fn of(algorithm: SignatureAlgorithm) -> KeyKind {
        match algorithm {
            SignatureAlgorithm::RSA => KeyKind::Rsa,
            SignatureAlgorithm::ED25519 => KeyKind::Ed25519,
            _ => KeyKind::Ecdsa,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            KeyKind::Ecdsa => "ECDSA",
            KeyKind::Ed25519 => "Ed25519",
            KeyKind::Rsa => "RSA",
        }
    }
}

/// The certificates in a file, at least one.
pub(super) fn chain(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let (pem, _) = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{path} holds no certificate; a PEM file has -----BEGIN CERTIFICATE-----")),
        Err(_) => Err(format!("{path} is no PEM file")),
    }
}

/// The lists of revoked certificates in a file, at least one.
pub(super) fn revoked(path: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let (pem, _) = read(path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        Ok(_) => Err(format!("{path} holds no list of revoked certificates; a PEM file has -----BEGIN X509 CRL-----")),
        Err(_) => Err(format!("{path} is no PEM file")),
    }
}

fn private_key(paths: &Paths) -> Result<PrivateKeyDer<'static>, String> {
    let path = &paths.key;
    let (pem, mode) = read(path)?;
    if mode & 0o004 != 0 && !paths.readable_key {
        return Err(format!(
            "every user of this machine can read {path} (mode {:04o}): chmod o-r {path}, or say readable_key = true",
            mode & 0o7777
        ));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound if pem.windows(9).any(|part| part == b"ENCRYPTED") => {
            format!(
                "the key in {path} is encrypted; write it without a passphrase (openssl pkey) and keep it from others"
            )
        }
        pem::Error::NoItemsFound => format!("{path} holds no private key; PEM files of PKCS#8, PKCS#1 and SEC1 do"),
        _ => format!("{path} is no PEM file"),
    })
}

/// A file and its mode.
fn read(path: &str) -> Result<(Vec<u8>, u32), String> {
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| {
        let mode = file.metadata()?.mode();
        file.take(LONGEST + 1).read_to_end(&mut bytes)?;
        Ok(mode)
    });
    match opened {
        Err(error) => Err(format!("{path} cannot be read: {}", in_words(&error))),
        Ok(_) if bytes.is_empty() => Err(format!("{path} is empty")),
        Ok(_) if bytes.len() as u64 > LONGEST => Err(format!("{path} is larger than 1 MB: it is something else")),
        Ok(mode) => Ok((bytes, mode)),
    }
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied; check its owner and mode".into(),
        _ => error.to_string(),
    }
}
