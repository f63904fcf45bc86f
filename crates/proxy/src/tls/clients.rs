//! Clients that prove who they are: whom a listener believes.

use super::PROVIDER;
use super::certificates::{Wrong, chain, revoked};
use super::tickets::Tickets;
use aws_lc_rs::digest::{Context, SHA256};
use penstock_plan::ClientCertificates;
use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use std::sync::Arc;

/// Whom a listener believes, read at one time.
#[derive(Debug)]
pub(crate) struct Believed {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// A ticket vouches for a proof that was made: it must not outlive those who were believed then.
    pub(super) tickets: Arc<Tickets>,
    /// Of all that was read.
    pub(super) digest: Box<[u8]>,
}

/// The files that say whom.
pub(super) fn files(plan: Option<&ClientCertificates>) -> impl Iterator<Item = &str> {
    plan.into_iter().flat_map(|plan| [Some(plan.ca.as_str()), plan.crl.as_deref()].into_iter().flatten())
}

impl Believed {
    /// Read all files of what stands at `path` of the plan.
    ///
    /// # Errors
    /// Everything wrong with any of them.
    pub(super) fn read(plan: &ClientCertificates, path: &str) -> Result<Believed, Vec<Wrong>> {
        let mut digest = Context::new(&SHA256);
        let wrong = |key: &str, message: String| (format!("{path}.{key}"), message);
        let authorities = chain(&plan.ca).map_err(|message| wrong("ca", message));
        let lists = plan.crl.as_deref().map_or(Ok(Vec::new()), revoked).map_err(|message| wrong("crl", message));
        let (authorities, lists) = match (authorities, lists) {
            (Ok(authorities), Ok(lists)) => (authorities, lists),
            (authorities, lists) => return Err(authorities.err().into_iter().chain(lists.err()).collect()),
        };
        let mut roots = RootCertStore::empty();
        for part in authorities {
            digest.update(&part);
            let not_one = |_| vec![wrong("ca", format!("{} holds what is no X.509 certificate", plan.ca))];
            roots.add(part).map_err(not_one)?;
        }
        lists.iter().for_each(|list| digest.update(list));
        let looks = !lists.is_empty();
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&PROVIDER)).with_crls(lists);
        // A list that is out of date says nothing of who was revoked since.
        let builder = if looks { builder.enforce_revocation_expiration() } else { builder };
        let builder = if plan.required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|error| match error {
            VerifierBuilderError::InvalidCrl(error) => {
                let path = plan.crl.as_deref().unwrap_or_default();
                vec![wrong("crl", format!("{path} holds a list that cannot be used: {error:?}"))]
            }
            error => vec![wrong("ca", error.to_string())],
        })?;
        let tickets = Tickets::new().map_err(|error| vec![wrong("ca", error.to_string())])?;
        Ok(Believed { verifier, tickets: Arc::new(tickets), digest: digest.finish().as_ref().into() })
    }
}
