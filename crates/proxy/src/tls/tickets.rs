//! Session tickets (RFC 5077, RFC 8446 §4.6.1): sealed with a key that lives 12 hours, opened with it and the one before. A key is
//! looked up without a lock; whoever comes first behind its time makes the next.

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::Error;
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a key seals.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
const ID_LENGTH: usize = 8;

/// Seals and opens the tickets of one listener: a ticket of another is none here (safety.md 139).
pub(super) struct Tickets(ArcSwap<Keys>);

struct Keys {
    sealing: Arc<Key>,
    before: Option<Arc<Key>>,
    until: Instant,
}

struct Key {
    id: [u8; ID_LENGTH],
    aead: RandomizedNonceKey,
}

impl Tickets {
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn new() -> Result<Tickets, Error> {
        let keys = Keys { sealing: Arc::new(Key::new()?), before: None, until: Instant::now() + LIFETIME };
        Ok(Tickets(ArcSwap::from_pointee(keys)))
    }

    fn keys(&self, now: Instant) -> Option<Arc<Keys>> {
        let keys = self.0.load_full();
        if now < keys.until {
            return Some(keys);
        }
        // Nobody was here for so long that the last key's tickets are too old, too.
        let before = (now < keys.until + LIFETIME).then(|| Arc::clone(&keys.sealing));
        let next = Arc::new(Keys { sealing: Arc::new(Key::new().ok()?), before, until: now + LIFETIME });
        // Another worker may have been first: then its key is the next.
        self.0.compare_and_swap(&keys, next);
        Some(self.0.load_full())
    }

    fn seal(&self, now: Instant, state: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys(now)?;
        let key = &keys.sealing;
        let mut sealed = state.to_vec();
        let nonce = key.aead.seal_in_place_append_tag(Aad::from(key.id), &mut sealed).ok()?;
        Some([&key.id[..], &nonce.as_ref()[..], &sealed].concat())
    }

    fn open(&self, now: Instant, ticket: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys(now)?;
        let (id, rest) = ticket.split_at_checked(ID_LENGTH)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = [Some(&keys.sealing), keys.before.as_ref()].into_iter().flatten().find(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut state = sealed.to_vec();
        let length = key.aead.open_in_place(nonce, Aad::from(key.id), &mut state).ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

impl Key {
    fn new() -> Result<Key, Error> {
        let (mut id, mut secret) = ([0; ID_LENGTH], [0; 32]);
        aws_lc_rs::rand::fill(&mut id).map_err(|_| Error::FailedToGetRandomBytes)?;
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::FailedToGetRandomBytes)?;
        let aead = RandomizedNonceKey::new(&AES_256_GCM, &secret).map_err(|_| Error::FailedToGetRandomBytes)?;
        Ok(Key { id, aead })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(Instant::now(), plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(Instant::now(), cipher)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are shown nowhere.
        to.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_under_its_key_and_the_next() {
        let (tickets, now) = (Tickets::new().unwrap(), Instant::now());
        let ticket = tickets.seal(now, b"session").unwrap();
        assert!(!ticket.windows(7).any(|part| part == b"session"));
        let hours = |hours: u64| now + Duration::from_secs(hours * 3600);
        assert_eq!(tickets.open(hours(11), &ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets.open(hours(13), &ticket).as_deref(), Some(&b"session"[..]));
        let second = tickets.seal(hours(13), b"session").unwrap();
        assert_ne!(ticket[..ID_LENGTH], second[..ID_LENGTH]);
        assert_eq!(tickets.open(hours(26), &ticket), None);
        assert_eq!(tickets.open(hours(26), &second).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets.open(hours(60), &second), None);
    }

    #[test]
    fn a_ticket_that_was_changed_or_is_of_another_listener_is_none() {
        let (tickets, now) = (Tickets::new().unwrap(), Instant::now());
        let ticket = tickets.seal(now, b"session").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.open(now, &changed), None);
            assert_eq!(tickets.open(now, &ticket[..at]), None);
        }
        assert_eq!(Tickets::new().unwrap().open(now, &ticket), None);
    }
}
