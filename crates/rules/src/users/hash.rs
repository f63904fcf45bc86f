//! The hash of a password, as htpasswd and its like write it. What one costs to try is limited: a file must not be able to stop whoever
//! reads it.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier};
use bcrypt::HashParts;
use data_encoding::BASE64;
use sha_crypt::ShaCrypt;
use sha1::{Digest, Sha1};

/// The costliest of each kind: a second or a few, each.
const MOST_BCRYPT: u32 = 16;
const MOST_MEMORY: u32 = 256 << 10;
const MOST_PASSES: u32 = 64;
/// Bytes: of less, too many passwords have the same.
const LEAST_ARGON2: usize = 16;
const MOST_ROUNDS: u32 = 1_000_000;

const TOO_COSTLY: &str = "its hash is too costly to try: at most cost 16 of bcrypt, 256 MB and 64 passes of argon2, 1000000 rounds of SHA-crypt";
const MALFORMED: &str = "its hash is cut or malformed";

/// The hash of a password. It has no `Debug`: nobody is to see it.
pub struct Hash {
    kind: Kind,
    text: Box<str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bcrypt,
    Argon2,
    ShaCrypt,
    /// Without a salt, and at once.
    Sha1,
}

impl Hash {
    /// Read one.
    ///
    /// # Errors
    /// Why it is none that can be tried; it is not told.
    pub fn read(text: &str) -> Result<Hash, &'static str> {
        let kind = match text.split('$').nth(1) {
            Some("2a" | "2b" | "2y") => bcrypt(text)?,
            Some("argon2id" | "argon2i" | "argon2d") => argon2(text)?,
            Some("5" | "6") => sha_crypt(text)?,
            Some("apr1" | "1") => {
                return Err("its hash is made with MD5, which is not read here: write it anew with htpasswd -B");
            }
            _ if text.starts_with("{SHA}") => sha1(text).map(|_| Kind::Sha1)?,
            _ => {
                return Err("its hash is of no kind that is read here ($2y$, $argon2id$, $5$, $6$, {SHA}): write it \
                            anew with htpasswd -B");
            }
        };
        Ok(Hash { kind, text: text.into() })
    }

    /// Whether this is the password. It takes long, and as long for any other.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self.kind {
            Kind::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Kind::Argon2 => Argon2::default().verify_password(password, &*self.text).is_ok(),
            Kind::ShaCrypt => ShaCrypt::default().verify_password(password, &*self.text).is_ok(),
            Kind::Sha1 => sha1(&self.text).is_ok_and(|hash| {
                // All of it, wherever they differ.
                let other = Sha1::digest(password);
                hash.iter().zip(other).fold(0, |unlike, (have, want)| unlike | (have ^ want)) == 0
            }),
        }
    }

    /// Whether who has it has the password soon.
    pub fn is_weak(&self) -> bool {
        self.kind == Kind::Sha1
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

fn bcrypt(text: &str) -> Result<Kind, &'static str> {
    let parts: HashParts = text.parse().map_err(|_| MALFORMED)?;
    match parts.get_cost() {
        0..4 => Err(MALFORMED),
        4..=MOST_BCRYPT => Ok(Kind::Bcrypt),
        _ => Err(TOO_COSTLY),
    }
}

fn argon2(text: &str) -> Result<Kind, &'static str> {
    let hash = PasswordHash::new(text).map_err(|_| MALFORMED)?;
    let params = Params::try_from(&hash).map_err(|_| MALFORMED)?;
    if hash.salt.is_none() || hash.hash.is_none_or(|hash| hash.len() < LEAST_ARGON2) {
        return Err(MALFORMED);
    }
    match (params.m_cost(), params.t_cost()) {
        (..=MOST_MEMORY, ..=MOST_PASSES) => Ok(Kind::Argon2),
        _ => Err(TOO_COSTLY),
    }
}

/// `$6$salt$hash` or `$6$rounds=5000$salt$hash`.
fn sha_crypt(text: &str) -> Result<Kind, &'static str> {
    let mut parts: Vec<&str> = text.split('$').skip(1).collect();
    if let Some(rounds) = parts.get(1).and_then(|part| part.strip_prefix("rounds=")) {
        match rounds.parse::<u32>() {
            Ok(1000..=MOST_ROUNDS) => {}
            Ok(1000..) => return Err(TOO_COSTLY),
            _ => return Err(MALFORMED),
        }
        parts.remove(1);
    }
    let length = if text.starts_with("$5$") { 43 } else { 86 };
    match parts[..] {
        [_, salt, hash] if (1..=16).contains(&salt.len()) && hash.len() == length => Ok(Kind::ShaCrypt),
        _ => Err(MALFORMED),
    }
}

fn sha1(text: &str) -> Result<[u8; 20], &'static str> {
    let text = text.strip_prefix("{SHA}").unwrap_or_default();
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| MALFORMED)?;
    bytes.try_into().map_err(|_| MALFORMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by others: the C library's crypt (libxcrypt), the reference implementation of argon2, and htpasswd.
    const MADE: &[(&str, &str)] = &[
        ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
        ("password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"),
        ("password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"),
        ("password", "$2b$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm"),
        ("password", "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm"),
        ("password", "$2a$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu"),
        ("päss", "$2y$04$abcdefghijklmnopqrstuuF7KK/SfP9IRGj0pPJMr8GdtCS8xpmpC"),
        ("password", "$5$salt$Gcm6FsVtF/Qa77ZKD.iwsJlCVPY0XSMgLJL0Hnww/c1"),
        ("password", "$5$rounds=1000$saltsalt$azOwbpkvuuBKkE82dQPwTsQE8JyT9Fflpr9aKid3aT9"),
        (
            "password",
            "$6$abcdefghijklmnop$0aenUFHf897F9u0tURIHOeACWajSuVGa7jgJGyq.DKZm/WXl/IZFvPbneFydBjomEOgM.Sh1m0L3KsS1.H5b//",
        ),
        (
            "password",
            "$6$rounds=1234$s$4DBoM5GnCASQ0/IFZ79YmYesN01E5lU9iITJZDnxdhwLAjbMsDRUZrJ8h.AmTmi5KJbfejhM2UNBjOLyUXBtI/",
        ),
    ];

    #[test]
    fn what_others_make_is_read() {
        for (password, text) in MADE {
            let hash = Hash::read(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
            assert!(hash.is_of(password.as_bytes()), "{text}");
            assert!(!hash.is_of(format!("{password}x").as_bytes()) && !hash.is_of(b""), "{text}");
            assert_eq!(hash.is_weak(), text.starts_with("{SHA}"));
        }
    }

    #[test]
    fn what_is_cut_or_costs_too_much_is_none() {
        for (_, text) in MADE {
            // How long it is, is left to who makes it.
            let free = if text.starts_with("$argon2") { 22 } else { 0 };
            for end in 0..text.len() - free {
                assert!(Hash::read(&text[..end]).is_err(), "{}", &text[..end]);
            }
        }
        for text in [
            "$2y$17$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm",
            "$argon2id$v=19$m=262145,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=65,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$5$rounds=1000001$salt$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
        ] {
            assert_eq!(Hash::read(text).err(), Some(TOO_COSTLY), "{text}");
        }
        for (text, word) in [("$apr1$a$b", "MD5"), ("$1$a$b", "MD5"), ("secret", "no kind"), ("", "no kind")] {
            assert!(Hash::read(text).err().is_some_and(|reason| reason.contains(word)), "{text}");
        }
    }
}
