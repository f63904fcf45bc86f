//! What a client says to prove who it is: a name and a password, as Basic (RFC 7617) and SOCKS (RFC 1929) carry them.

use crate::http::{Fields, Known};
use data_encoding::BASE64;

/// Bytes of a name, and of a password.
pub const LONGEST: usize = 255;

/// A name and a password. It has no `Debug`: nobody is to see it.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: Box<str>,
    /// The password, in whatever encoding its client has.
    pub password: Box<[u8]>,
}

impl Login {
    /// `None` for what is no name, and for passwords that are too long or hold control characters (RFC 7617 §2).
    pub fn new(user: &[u8], password: &[u8]) -> Option<Login> {
        let well = is_name(user) && password.len() <= LONGEST && !password.iter().any(u8::is_ascii_control);
        let user = str::from_utf8(user).ok().filter(|_| well)?;
        Some(Login { user: user.into(), password: password.into() })
    }

    /// Take the credentials for a proxy out of a request, which are for nobody behind it. `None`: there are none that are Basic;
    /// `Some(None)`: they are no name and password, or given twice.
    pub fn take(fields: &mut Fields) -> Option<Option<Login>> {
        let login = {
            let mut values = fields.all_known(Known::ProxyAuthorization);
            let (first, second) = (values.next()?, values.next());
            basic(first).map(|coded| if second.is_some() { None } else { read(coded) })
        };
        fields.remove("proxy-authorization");
        login
    }

    /// As a field's value.
    pub fn write(&self) -> String {
        format!("Basic {}", BASE64.encode(&[self.user.as_bytes(), b":", &self.password].concat()))
    }
}

/// What asks for Basic credentials of this realm, which has neither quotes nor backslashes.
pub fn challenge(realm: &str) -> String {
    format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")
}

pub(super) fn is_name(name: &[u8]) -> bool {
    (1..=LONGEST).contains(&name.len()) && !name.iter().any(u8::is_ascii_control)
}

/// The value of Basic credentials; `None` for another scheme.
fn basic(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(5)?;
    let coded = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"basic") && rest.first().is_none_or(|&byte| byte == b' ')).then_some(coded)
}

fn read(coded: &[u8]) -> Option<Login> {
    let text = BASE64.decode(coded).ok()?;
    let colon = text.iter().position(|&byte| byte == b':')?;
    Login::new(text.get(..colon)?, text.get(colon + 1..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(values: &[&str]) -> Option<Option<(String, String)>> {
        let mut fields = Fields::default();
        fields.push("accept", "*/*");
        values.iter().for_each(|value| fields.push("Proxy-Authorization", value));
        let taken = Login::take(&mut fields);
        assert_eq!(fields.len(), 1);
        taken.map(|login| login.map(|login| (login.user.into(), String::from_utf8(login.password.into()).unwrap())))
    }

    #[test]
    fn credentials_are_read_and_taken_out() {
        let of = |user: &str, password: &str| Some(Some((user.to_owned(), password.to_owned())));
        assert_eq!(taken(&["Basic YWRhOnNlY3JldA=="]), of("ada", "secret"));
        assert_eq!(taken(&["bAsIc   YWRhOnNlY3JldA=="]), of("ada", "secret"));
        // Only a name has no colon; a password may be empty.
        assert_eq!(taken(&["Basic YTpiOmM="]), of("a", "b:c"));
        assert_eq!(taken(&["Basic YTo="]), of("a", ""));
        assert_eq!(taken(&["Basic YTrDvA=="]), of("a", "ü"));
        for malformed in ["Basic", "Basic !", "Basic YWRh", "Basic OnNlY3JldA==", "Basic YQo6Yg==", "Basic YTpiAGM="] {
            assert_eq!(taken(&[malformed]), Some(None), "{malformed}");
        }
        assert_eq!(taken(&["Basic YTpi", "Basic YTpi"]), Some(None));
        for other in ["", "Bearer x", "NTLM x", "Basically YTpi", "Ba"] {
            assert_eq!(taken(&[other]), None, "{other}");
        }
        assert_eq!(taken(&[]), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let login = Login::new(b"ada", b"a:b").unwrap();
        assert_eq!(taken(&[&login.write()]), Some(Some(("ada".into(), "a:b".into()))));
        assert_eq!(challenge("ours"), r#"Basic realm="ours", charset="UTF-8""#);
        for (user, password) in
            [(&b""[..], &b"x"[..]), (b"a\n", b"x"), (b"\xff", b"x"), (b"a", b"x\0"), (b"a", &[b'x'; 256])]
        {
            assert!(Login::new(user, password).is_none());
        }
    }
}
