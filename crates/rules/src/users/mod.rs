//! Users, and how they prove who they are: a name and a password (Basic, RFC 7617), held against the hashes of an htpasswd file.
//! To hash takes long, on purpose: it is not for a thread that serves others.

mod hash;
mod login;

pub use hash::Hash;
pub use login::{LONGEST, Login, challenge};

use ahash::{AHashMap, RandomState};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;

/// The users of a file.
#[derive(Default)]
pub struct Users {
    hashes: Vec<Arc<Hash>>,
    /// Places among them.
    by_name: AHashMap<Box<str>, usize>,
    /// Chooses a hash for a name that nobody has.
    decoys: RandomState,
}

/// A line that is none, counted from 1. Neither the name nor the hash is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// What a login proves, in a form that can be kept: it tells nothing of the password, and is another one when the user's hash is.
pub type Proof = [u64; 2];

impl Users {
    /// Read a file: a line `name:hash` for each user. Empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    /// All lines that are wrong.
    pub fn read(text: &[u8]) -> Result<Users, Vec<BadLine>> {
        let (mut users, mut bad) = (Users::default(), Vec::new());
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if let Err(reason) = users.add(line) {
                bad.push(BadLine { line: number + 1, reason });
            }
        }
        if bad.is_empty() { Ok(users) } else { Err(bad) }
    }

    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        let (name, rest) = line.split_once(':').ok_or("it is not name:hash")?;
        // What stands behind a further colon is a comment.
        let hash = Hash::read(rest.split(':').next().unwrap_or_default())?;
        if !login::is_name(name.as_bytes()) {
            return Err("its name is empty, longer than 255 bytes or has control characters");
        }
        if self.by_name.insert(name.into(), self.hashes.len()).is_some() {
            return Err("its name stands in a line before");
        }
        self.hashes.push(Arc::new(hash));
        Ok(())
    }

    /// The hash of this user's password; `None`: there is no such user.
    pub fn find(&self, name: &str) -> Option<&Arc<Hash>> {
        self.hashes.get(*self.by_name.get(name)?)
    }

    /// The hash that the password of nobody is held against, so that the time it takes tells nothing: of the same name always the same
    /// one. `None`: there are no users.
    pub fn decoy(&self, name: &str) -> Option<&Arc<Hash>> {
        let at = (self.decoys.hash_one(name) as usize).checked_rem(self.hashes.len())?;
        self.hashes.get(at)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Those whose hash is no obstacle to who has the file.
    pub fn weak(&self) -> usize {
        self.hashes.iter().filter(|hash| hash.is_weak()).count()
    }
}

/// The proof of this login against this hash, under a secret of this process.
pub fn proof(secret: &[u8], hash: &Hash, login: &Login) -> Proof {
    proof_of(secret, hash.text(), login)
}

/// The same where no hash is known: good for as long as `term` is the same, a text without a zero byte.
pub fn proof_of(secret: &[u8], term: &str, login: &Login) -> Proof {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return Proof::default() };
    // Neither a name nor a hash holds a zero byte, so the three cannot run into each other.
    for part in [login.user.as_bytes(), term.as_bytes(), &login.password] {
        mac.update(part);
        mac.update(&[0]);
    }
    let code = mac.finalize().into_bytes();
    let mut words = code.chunks_exact(8).map(|word| word.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)));
    [words.next().unwrap_or_default(), words.next().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# ours\n\nada:$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm\r\n\
                        bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=:a comment\n";

    #[test]
    fn a_file_has_users_and_says_which_lines_are_none() {
        let users = Users::read(FILE.as_bytes()).unwrap();
        assert_eq!((users.len(), users.weak(), users.is_empty()), (2, 1, false));
        assert!(users.find("bob").unwrap().is_of(b"password") && !users.find("bob").unwrap().is_of(b"Password"));
        assert!(users.find("eve").is_none() && users.find("").is_none());
        let names = ["eve", "mallory", "x", "y", "z", "w"];
        let decoy = |name: &str| users.decoy(name).map(Arc::as_ptr);
        assert!(names.iter().all(|name| decoy(name).is_some() && decoy(name) == decoy(name)));
        assert!(Users::default().decoy("eve").is_none());
        let bad = "ada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nnobody\nada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n:x\n\
                   a\u{7}:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nb:plain\nc:$apr1$x$y\n";
        let bad: Vec<_> = Users::read(bad.as_bytes()).err().unwrap();
        assert_eq!(bad.iter().map(|line| line.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
        assert!(bad.iter().all(|line| !line.reason.contains("plain") && !line.reason.is_empty()));
        assert_eq!(Users::read(b"\xff:x").err().unwrap()[0].reason, "it is not UTF-8");
    }

    proptest! {
        #[test]
        fn any_file_and_any_field_get_a_verdict(text: Vec<u8>, kind in "[$]?(2y|argon2id|5|6|[{]SHA[}])?[$]?", hash: String) {
            let _ = Users::read(&text);
            let _ = Users::read(format!("a:{kind}{hash}").as_bytes());
            let mut fields = crate::http::Fields::default();
            fields.push("proxy-authorization", [&b"Basic "[..], &text].concat());
            let login = Login::take(&mut fields).flatten();
            prop_assert!(login.is_none_or(|login| !login.user.is_empty() && login.password.len() <= LONGEST));
            prop_assert!(fields.is_empty());
        }
    }

    #[test]
    fn a_proof_is_of_one_user_one_password_and_one_hash() {
        let users = Users::read(FILE.as_bytes()).unwrap();
        let (ada, bob) = (users.find("ada").unwrap(), users.find("bob").unwrap());
        let login = |user: &str, password: &str| Login::new(user.as_bytes(), password.as_bytes()).unwrap();
        let own = proof(b"secret", ada, &login("ada", "x"));
        assert_eq!(own, proof(b"secret", ada, &login("ada", "x")));
        for other in [
            proof(b"another", ada, &login("ada", "x")),
            proof(b"secret", bob, &login("ada", "x")),
            proof(b"secret", ada, &login("bob", "x")),
            proof(b"secret", ada, &login("ada", "y")),
        ] {
            assert!(own[0] != other[0] && own[1] != other[1]);
        }
    }
}
