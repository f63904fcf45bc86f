//! The authority by which a forward proxy stands for the origins of the tunnels that it opens: made once, kept in a folder of its own,
//! and believed by nobody before somebody says so (`penstock ca`). Its key goes nowhere.

use super::certificates::Served;
use super::internal::{authority_params, enter, leaf_params, write};
use super::tickets::Tickets;
use super::{PROVIDER, Stamp, TLS13_AND_TLS12, asked, now, stamp};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use penstock_plan::Certificate as Paths;
use penstock_rules::tls::Client;
use rcgen::{Issuer, KeyPair, SerialNumber};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use std::fmt::{self, Display};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// How long a certificate for an origin is valid, from a day before it was made on; it is used for a day.
const LEAF_DAYS: i64 = 7;

/// An authority, and the key of all certificates that it signs.
pub(crate) struct Authority {
    pub(crate) folder: String,
    /// The certificate, for whoever is to trust it.
    pub(crate) pem: String,
    /// Of its files, as they were when they were read.
    stamps: [Stamp; 2],
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Of the certificates of origins, for as long as the process lives.
    leaf: KeyPair,
    signing: Arc<dyn SigningKey>,
    tickets: Arc<Tickets>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are shown nowhere.
        to.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// The one in this folder, made if nothing of it is there; `known`, if its files are those that it was read from.
    ///
    /// # Errors
    /// What is wrong with the folder or its files, and what to do.
    pub(crate) fn open(folder: &str, known: Option<&Arc<Authority>>) -> Result<Arc<Authority>, String> {
        let [cert, key] = ["ca.pem", "ca.key"].map(|name| Path::new(folder).join(name).to_string_lossy().into_owned());
        let stamps = || [stamp(&cert), stamp(&key)];
        if let Some(known) = known.filter(|known| known.folder == folder && known.stamps == stamps()) {
            return Ok(Arc::clone(known));
        }
        let failed = |error: &dyn Display| format!("cannot keep an authority in {folder}: {error}");
        let _lock = enter(Path::new(folder)).map_err(|error| failed(&error))?;
        match [&cert, &key].map(|path| Path::new(path).exists()) {
            [false, false] => make(&cert, &key).map_err(|error| failed(&error))?,
            [true, true] => {}
            [has_cert, _] => {
                let (there, lost) = if has_cert { ("ca.pem", "ca.key") } else { ("ca.key", "ca.pem") };
                return Err(format!(
                    "{folder} holds {there} without {lost}: put {lost} back, or remove {there}, and have clients trust the new authority"
                ));
            }
        }
        // Before the files are read: a change in between is seen at the next look.
        let stamps = stamps();
        let certificate = read(&cert, &key)?;
        let public = fs::read_to_string(&cert).map_err(|error| failed(&error))?;
        let pem = fs::read_to_string(&key).map_err(|error| failed(&error))?;
        let own = KeyPair::from_pem(&pem).map_err(|error| failed(&error))?;
        let subject = name(&own);
        if Client::parse(&certificate).map(|client| client.subject).ok().as_deref() != Some(&format!("CN={subject}")) {
            return Err(format!("{cert} was not made by Penstock: remove it and {key}, and a new authority is made"));
        }
        let issuer = Issuer::new(authority_params(&subject), own);
        let leaf = KeyPair::generate().map_err(|error| failed(&error))?;
        let der = PrivateKeyDer::Pkcs8(leaf.serialize_der().into());
        let signing = PROVIDER.key_provider.load_private_key(der).map_err(|error| failed(&error))?;
        let tickets = Arc::new(Tickets::new().map_err(|error| failed(&error))?);
        let (folder, public) = (folder.to_owned(), first_certificate(&public).to_owned());
        Ok(Arc::new(Authority { folder, pem: public, stamps, issuer, certificate, leaf, signing, tickets }))
    }

    /// What a client shakes hands with that is to take us for `host`, a name or an address. This takes a moment: no worker waits for it.
    ///
    /// # Errors
    /// `host` is neither, or the system gives no random bytes.
    pub(crate) fn stand_for(&self, host: &str) -> Result<ServerConfig, String> {
        let told = |error: &dyn Display| format!("cannot make a certificate for {host}: {error}");
        let signed = self.sign(host).map_err(|error| told(&error))?;
        let key = Arc::new(CertifiedKey::new(vec![signed, self.certificate.clone()], Arc::clone(&self.signing)));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER));
        let builder = builder.with_protocol_versions(TLS13_AND_TLS12).map_err(|error| told(&error))?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Leaf(key)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&self.tickets) as _;
        Ok(config)
    }

    fn sign(&self, host: &str) -> Result<CertificateDer<'static>, Box<dyn std::error::Error>> {
        let mut params = leaf_params(&[host.to_owned()], LEAF_DAYS)?;
        // Never the same of two, or clients that have seen both refuse both.
        let mut serial = [0; 16];
        rand::fill(&mut serial)?;
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        Ok(params.signed_by(&self.leaf, &self.issuer)?.der().clone())
    }
}

/// One certificate, for whoever asks.
#[derive(Debug)]
struct Leaf(Arc<CertifiedKey>);

impl ResolvesServerCert for Leaf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        asked::note(hello.server_name(), false);
        Some(Arc::clone(&self.0))
    }
}

/// What the authority of this key is called: never as another, so that clients that trust several tell them apart.
fn name(key: &KeyPair) -> String {
    let digest = digest(&SHA256, key.public_key_raw());
    let short = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}"));
    format!("Penstock interception {}", short.collect::<String>())
}

fn make(cert: &str, key: &str) -> Result<(), Box<dyn std::error::Error>> {
    let own = KeyPair::generate()?;
    let signed = authority_params(&name(&own)).self_signed(&own)?;
    write(Path::new(key), &own.serialize_pem())?;
    write(Path::new(cert), &signed.pem())?;
    Ok(())
}

/// The part of the file that is a certificate. What somebody has put beside it, as the key, is not for others.
fn first_certificate(text: &str) -> &str {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let from = text.find(begin).and_then(|at| text.get(at..)).unwrap_or_default();
    from.find(end).and_then(|at| from.get(..at + end.len())).unwrap_or_default()
}

/// The certificate, if its key is its own and it is still good.
fn read(cert: &str, key: &str) -> Result<CertificateDer<'static>, String> {
    let paths = Paths { cert: cert.to_owned(), key: key.to_owned(), readable_key: false, ocsp: None };
    let served = Served::read(&paths).map_err(|wrong| {
        let messages: Vec<_> = wrong.into_iter().map(|(_, message)| message).collect();
        messages.join("; ")
    })?;
    if served.certificate.days_left(now()) < LEAF_DAYS {
        return Err(format!(
            "{cert} has come to its end: remove it and {key}, and have clients trust the authority that is made then"
        ));
    }
    served.key.cert.first().cloned().ok_or_else(|| format!("{cert} holds no certificate"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_rules::tls::Certificate;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("penstock-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Folder(folder)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_is_made_once_and_found_again() {
        let folder = Folder::new("made");
        let first = Authority::open(folder.path(), None).unwrap();
        let mode = |name: &str| fs::metadata(folder.0.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("."), mode("ca.key"), mode("ca.pem")), (0o700, 0o600, 0o600));
        assert!(Arc::ptr_eq(&Authority::open(folder.path(), Some(&first)).unwrap(), &first));
        let again = Authority::open(folder.path(), None).unwrap();
        assert_eq!(again.certificate, first.certificate);
        assert!(!format!("{again:?}").contains("KEY"));
        fs::remove_file(folder.0.join("ca.pem")).unwrap();
        assert!(Authority::open(folder.path(), None).unwrap_err().contains("holds ca.key without ca.pem"));
        fs::remove_file(folder.0.join("ca.key")).unwrap();
        let other = Authority::open(folder.path(), Some(&first)).unwrap();
        assert_ne!(other.certificate, first.certificate);
    }

    #[test]
    fn a_key_that_others_can_read_and_a_certificate_of_others_are_refused() {
        let folder = Folder::new("wrong");
        drop(Authority::open(folder.path(), None).unwrap());
        let key = folder.0.join("ca.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Authority::open(folder.path(), None).unwrap_err().contains("chmod o-r"));
        let own = KeyPair::generate().unwrap();
        fs::remove_file(&key).unwrap();
        write(&key, &own.serialize_pem()).unwrap();
        assert!(Authority::open(folder.path(), None).unwrap_err().contains("is not the key of the certificate"));
        write(&folder.0.join("ca.pem"), &authority_params("Somebody").self_signed(&own).unwrap().pem()).unwrap();
        assert!(Authority::open(folder.path(), None).unwrap_err().contains("was not made by Penstock"));
    }

    #[test]
    fn a_certificate_is_for_one_host_and_short() {
        let folder = Folder::new("leaf");
        let authority = Authority::open(folder.path(), None).unwrap();
        let mut serials = Vec::new();
        for host in ["shop.example", "192.0.2.1", "2001:db8::1", "shop.example"] {
            let leaf = Certificate::parse(&authority.sign(host).unwrap()).unwrap();
            assert_eq!(leaf.names, [host]);
            assert!((LEAF_DAYS - 1..=LEAF_DAYS).contains(&leaf.days_left(now())));
            assert!(leaf.not_before < now() - 3600);
            serials.push(leaf.serial);
        }
        serials.sort_unstable();
        serials.dedup();
        assert_eq!(serials.len(), 4, "no two are the same");
        assert!(authority.stand_for("shop.example").is_ok() && authority.stand_for("\u{fc}.example").is_err());
    }
}
