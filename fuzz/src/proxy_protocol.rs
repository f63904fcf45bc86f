//! The header of the PROXY protocol: one verdict for every way the bytes can come, bounded, and read again as it was written.

use penstock_plan::ProxyVersion;
use penstock_rules::proxy_protocol::{Header, MOST, SIGNATURE, read, write};

/// Check one input: what a connection begins with.
pub fn check(bytes: &[u8]) {
    let whole = read(bytes);
    for end in 0..bytes.len().min(MOST + 1) {
        match read(&bytes[..end]) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole, "the verdict of {end} bytes is taken back"),
        }
    }
    match whole {
        Ok(Some(header)) => check_header(bytes, header),
        Ok(None) => assert!(bytes.len() < MOST, "more than a header is waited for"),
        Err(_) => {}
    }
}

fn check_header(bytes: &[u8], header: Header) {
    assert!(header.length <= bytes.len().min(MOST));
    let own = &bytes[..header.length];
    assert_eq!(read(own), Ok(Some(header)), "what follows a header changes it");
    if own.starts_with(SIGNATURE) {
        assert_eq!(usize::from(own[14]) * 256 + usize::from(own[15]) + 16, own.len());
    } else {
        assert!(own.ends_with(b"\r\n") && own.len() <= 107);
        assert_eq!(own.iter().filter(|&&byte| byte == b'\r' || byte == b'\n').count(), 2);
    }
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut written = Vec::new();
        write(version, header.addresses.as_ref(), &mut written);
        let again = read(&written).expect("what we wrote").expect("a whole header");
        assert_eq!((again.length, again.addresses), (written.len(), header.addresses));
    }
}
