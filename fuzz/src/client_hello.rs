//! A TLS `ClientHello`: the same verdict however it comes in pieces, and a host that is one.

use crate::split::ways;
use penstock_rules::tls::{BadHello, First, HelloReader, LONGEST};

/// Check one input.
pub fn check(bytes: &[u8]) {
    let at_once = read([bytes]);
    for pieces in ways(bytes) {
        assert_eq!(read(pieces), at_once, "another verdict in pieces");
    }
    let Ok(First::Hello(hello)) = at_once else {
        assert!(at_once != Ok(First::Partial) || bytes.len() < LONGEST, "more than may be read, and no verdict");
        return;
    };
    if let Some(name) = hello.sni {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        assert!((1..=253).contains(&name.len()) && name.bytes().all(plain), "{name:?} is no host");
        // Letter by letter, because records may stand between.
        let mut rest = bytes.iter().map(u8::to_ascii_lowercase);
        assert!(name.bytes().all(|letter| rest.any(|byte| byte == letter)), "{name:?} was never said");
    }
    assert!(hello.alpn.is_none_or(|name| (1..=255).contains(&name.len())));
}

fn read<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Result<First, BadHello> {
    let mut reader = HelloReader::default();
    for piece in pieces {
        match reader.take(piece) {
            Ok(First::Partial) => {}
            verdict => return verdict,
        }
    }
    Ok(First::Partial)
}
