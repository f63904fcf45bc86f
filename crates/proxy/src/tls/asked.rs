//! The name of the handshake that goes on right now on this thread. The library tells it to whoever chooses a certificate, and to
//! nobody else; it does so before the call that moves the handshake on returns.

use std::cell::RefCell;

thread_local! {
    static NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

pub(super) fn note(name: Option<&str>) {
    NAME.set(name.map(|name| name.to_ascii_lowercase().into()));
}

pub(super) fn take() -> Option<Box<str>> {
    NAME.take()
}
