//! Certificates of our own, for development (`tls = "internal"`): a local authority, made once, and a certificate of it. Nobody believes
//! that authority before its user says so (`penstock trust`), and its key never leaves its folder.

use super::certificates::chain;
use super::now;
use penstock_plan::{Certificate as Paths, Internal};
use penstock_rules::tls::{Certificate, UnixSeconds};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use time::OffsetDateTime;

/// By which people find it among those that their machine trusts.
const AUTHORITY: &str = "Penstock local authority";
const DAY: i64 = 86_400;
/// How long each is valid. Browsers refuse certificates for longer than 398 days.
const AUTHORITY_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 90;
/// With so many days left a certificate is made anew.
const RENEW_DAYS: i64 = 30;

/// Whether a certificate is to be made anew.
pub(super) fn is_due(certificate: &Certificate, now: UnixSeconds) -> bool {
    certificate.days_left(now) < RENEW_DAYS
}

/// See that the files are there and good for a while.
///
/// # Errors
/// What the system says, in words.
pub(super) fn provide(plan: &Internal, leaf: &Paths) -> Result<(), String> {
    let folder = Path::new(&plan.folder);
    let failed = |error: io::Error| format!("cannot keep the local authority in {}: {error}", plan.folder);
    let _lock = enter(folder).map_err(failed)?;
    let made = |error: Error| format!("cannot make a certificate: {error}");
    let (key, fresh) = authority(folder).map_err(failed)?.map_err(made)?;
    let current = chain(&leaf.cert).ok().and_then(|chain| Certificate::parse(chain.first()?).ok());
    let lasts = |leaf: &Certificate| !is_due(leaf, now()) && leaf.names == plan.names;
    if !fresh && current.as_ref().is_some_and(lasts) && Path::new(&leaf.key).exists() {
        return Ok(());
    }
    let own = KeyPair::generate().map_err(made)?;
    let params = leaf_params(&plan.names, LEAF_DAYS).map_err(made)?;
    let signed = params.signed_by(&own, &Issuer::from_params(&authority_params(AUTHORITY), &key)).map_err(made)?;
    write(Path::new(&leaf.key), &own.serialize_pem()).map_err(failed)?;
    write(Path::new(&leaf.cert), &signed.pem()).map_err(failed)
}

/// The key of the authority, and whether it was made just now.
fn authority(folder: &Path) -> io::Result<Result<(KeyPair, bool), Error>> {
    let (cert, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    let lasts = |leaf: &Certificate| leaf.days_left(now()) > LEAF_DAYS;
    let known = cert.to_str().and_then(|path| Certificate::parse(chain(path).ok()?.first()?).ok());
    if known.as_ref().is_some_and(lasts)
        && let Ok(pem) = fs::read_to_string(&key)
        && let Ok(known) = KeyPair::from_pem(&pem)
    {
        return Ok(Ok((known, false)));
    }
    let made = KeyPair::generate().and_then(|key| Ok((authority_params(AUTHORITY).self_signed(&key)?, key)));
    let (signed, own) = match made {
        Ok(made) => made,
        Err(error) => return Ok(Err(error)),
    };
    write(&key, &own.serialize_pem())?;
    write(&cert, &signed.pem())?;
    Ok(Ok((own, true)))
}

/// Make the folder of an authority, if it is missing, and keep other processes of this user from it until what is returned is dropped.
pub(super) fn enter(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// An authority of this name, which signs certificates of hosts and no further authorities.
pub(super) fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    named(&mut params, name, AUTHORITY_DAYS);
    params
}

/// A certificate for these hosts and addresses, for so many days.
pub(super) fn leaf_params(names: &[String], days: i64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    named(&mut params, "Penstock", days);
    Ok(params)
}

fn named(params: &mut CertificateParams, name: &str, days: i64) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // The clocks of machines differ a little.
    (params.not_before, params.not_after) = (at(now() - DAY), at(now() + days * DAY));
}

/// Put a file in its place whole, for its owner alone.
pub(super) fn write(path: &Path, content: &str) -> io::Result<()> {
    let fresh = path.with_extension("fresh");
    let _ = fs::remove_file(&fresh);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?.write_all(content.as_bytes())?;
    fs::rename(&fresh, path)
}
