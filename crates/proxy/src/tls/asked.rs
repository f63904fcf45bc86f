//! The name of the handshake that goes on right now on this thread. The library tells it to whoever chooses a certificate, and to
//! nobody else; it does so before the call that moves the handshake on returns.

use std::cell::RefCell;

/// What a client asked for.
#[derive(Default)]
pub(super) struct Asked {
    /// In lower case.
    pub(super) name: Option<Box<str>>,
    /// No certificate was chosen: the name is not served.
    pub(super) unserved: bool,
}

thread_local! {
    static ASKED: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

pub(super) fn note(name: Option<&str>, unserved: bool) {
    ASKED.set(Some(Asked { name: name.map(|name| name.to_ascii_lowercase().into()), unserved }));
}

pub(super) fn take() -> Option<Asked> {
    ASKED.take()
}
