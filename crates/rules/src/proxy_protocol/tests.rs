use super::*;
use proptest::prelude::*;

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

fn header(length: usize, addresses: Option<Addresses>) -> Result<Option<Header>, Kind> {
    Ok(Some(Header { length, addresses }))
}

/// Version 2: version and command, family, content.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, content].concat()
}

const TCP4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb];
const IPV6: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

#[test]
fn lines_of_version_1() {
    let longest = format!("PROXY TCP6 {IPV6} {IPV6} 65535 65535\r\n");
    assert_eq!(longest.len(), 104);
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n", addresses("192.0.2.7:12345", "10.0.0.1:443")),
        ("PROXY TCP6 2001:db8::7 ::1 1 0\r\n", addresses("[2001:db8::7]:1", "[::1]:0")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", addresses("192.0.2.7:1", "[::1]:2")),
        (&longest, addresses(&format!("[{IPV6}]:65535"), &format!("[{IPV6}]:65535"))),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None),
    ] {
        assert_eq!(read(format!("{line}GET / HTTP/1.1\r\n").as_bytes()), header(line.len(), expected), "{line}");
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\rX",
        "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443 \r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n",
        "PROXY TCP4  192.0.2.7 10.0.0.1 12345 443\r\n",
        "PROXY TCP4 192.0.2.07 10.0.0.1 12345 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 012345 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 example.com 1 2\r\n",
        "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.7\u{a0}10.0.0.1 1 2\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(Kind::ProxyHeaderBad), "{line}");
    }
    for other in ["GET / HTTP/1.1\r\n", "proxy TCP4 ", "PROXYTCP4", "\u{16}\u{3}\u{1}", "\r\n\r\nGET", "PRI * HTTP/2.0"]
    {
        assert_eq!(read(other.as_bytes()), Err(Kind::ProxyHeaderMissing), "{other}");
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    let unknown = |padding: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(padding));
    assert_eq!(read(unknown(91).as_bytes()), header(107, None));
    assert_eq!(read(unknown(92).as_bytes()), Err(Kind::ProxyHeaderBad));
    assert_eq!(read(&unknown(1000).as_bytes()[..106]), Err(Kind::ProxyHeaderBad));
    assert_eq!(read(&unknown(91).as_bytes()[..106]), Ok(None));
}

#[test]
fn headers_of_version_2() {
    let tcp6 = [&[0; 15][..], &[1], &[0; 10], &[0xff, 0xff, 192, 0, 2, 7], &[0, 1, 0, 2]].concat();
    for (bytes, expected) in [
        (v2(0x21, 0x11, TCP4), addresses("192.0.2.7:12345", "10.0.0.1:443")),
        (v2(0x21, 0x21, &tcp6), addresses("[::1]:1", "192.0.2.7:2")),
        // TLVs: a name (authority), one without a value.
        (v2(0x21, 0x11, &[TCP4, &[2, 0, 1, b'a', 4, 0, 0]].concat()), addresses("192.0.2.7:12345", "10.0.0.1:443")),
        (v2(0x21, 0x11, &[TCP4, &[4, 0x0f, 0xf1], &[0; 4081]].concat()), addresses("192.0.2.7:12345", "10.0.0.1:443")),
        (v2(0x21, 0x31, &[b'/'; 216]), None),
        (v2(0x21, 0x00, &[1, 2, 3]), None),
        (v2(0x20, 0x00, &[]), None),
        // What a header of LOCAL says beyond that is to be ignored.
        (v2(0x20, 0x11, TCP4), None),
        (v2(0x20, 0xff, &[7; 5]), None),
    ] {
        let behind = [&bytes[..], b"\x16\x03\x01"].concat();
        assert_eq!(read(&behind), header(bytes.len(), expected), "{bytes:?}");
        assert!(bytes.len() <= MOST);
    }
}

#[test]
fn headers_that_are_none() {
    let long = |length: u16| [SIGNATURE, &[0x21, 0x11], &length.to_be_bytes()].concat();
    for bytes in [
        v2(0x11, 0x11, TCP4),
        v2(0x22, 0x11, TCP4),
        // A datagram's, and families that there are not.
        v2(0x21, 0x12, TCP4),
        v2(0x21, 0x41, TCP4),
        v2(0x21, 0x10, TCP4),
        // Too short for its addresses; TLVs that are cut, or too long.
        v2(0x21, 0x11, &TCP4[..11]),
        v2(0x21, 0x21, TCP4),
        v2(0x21, 0x11, &[TCP4, &[2]].concat()),
        v2(0x21, 0x11, &[TCP4, &[2, 0, 2, b'a']].concat()),
        v2(0x21, 0x11, &[TCP4, &[2, 0xff, 0xff]].concat()),
        v2(0x21, 0x11, &[TCP4, &[3, 0, 4, 0, 0, 0, 0]].concat()),
        v2(0x21, 0x11, &[TCP4, &[3, 0, 3, 0, 0, 0]].concat()),
        long(65535),
        long(4097),
    ] {
        assert_eq!(read(&bytes), Err(Kind::ProxyHeaderBad), "{bytes:?}");
    }
}

#[test]
fn a_checksum_is_verified() {
    let mut bytes = v2(0x21, 0x11, &[TCP4, &[4, 0, 1, 9, 3, 0, 4, 0, 0, 0, 0, 4, 0, 0]].concat());
    let at = bytes.len() - 7;
    let sum = bitwise(&bytes).to_be_bytes();
    bytes[at..at + 4].copy_from_slice(&sum);
    assert_eq!(read(&bytes), header(bytes.len(), addresses("192.0.2.7:12345", "10.0.0.1:443")));
    bytes[20] ^= 1;
    assert_eq!(read(&bytes), Err(Kind::ProxyHeaderBad));
}

/// CRC-32C by polynomial division, the other way round than the code does it.
fn bitwise(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        for bit in 0..8 {
            let carry = (sum & 1 != 0) != (byte >> bit & 1 != 0);
            sum >>= 1;
            if carry {
                sum ^= 0x1EDC_6F41_u32.reverse_bits();
            }
        }
    }
    !sum
}

/// Headers, whole ones and such that break somewhere, and what could come behind them.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let text = "PROXY (TCP[46]|UNKNOWN|UDP4) (192\\.0\\.2\\.[0-9]{1,3}|::[0-9a-f]{0,4}) (10\\.0\\.0\\.1|::1) [0-9]{1,6} 4?4?3(\r\n|\n|\r| )";
    let content = prop::collection::vec(any::<u8>(), 0..60);
    let command = prop::sample::select(vec![0x20, 0x21, 0x11]);
    let family = prop::sample::select(vec![0, 0x11, 0x21, 0x31, 0x12]);
    let binary = (command, family, content).prop_map(|(command, family, content)| v2(command, family, &content));
    let behind = prop::collection::vec(any::<u8>(), 0..120);
    let any_bytes = prop::collection::vec(any::<u8>(), 0..40);
    (prop_oneof![text.prop_map(String::into_bytes), binary, any_bytes], behind)
        .prop_map(|(front, behind)| [front, behind].concat())
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| canonical(SocketAddr::new(ip, port)))
}

proptest! {
    /// safety.md R12: a verdict is the same however the bytes come, and none is taken back.
    #[test]
    fn every_split_has_the_same_verdict(bytes in input()) {
        let whole = read(&bytes);
        let first = (0..=bytes.len()).map(|end| read(&bytes[..end])).find(|verdict| *verdict != Ok(None));
        prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
        if let Ok(Some(header)) = whole {
            prop_assert!(header.length <= bytes.len().min(MOST));
            for end in 0..header.length {
                prop_assert_eq!(read(&bytes[..end]), Ok(None), "at {}", end);
            }
        }
    }

    #[test]
    fn what_is_written_is_read(source in any_address(), destination in any_address(), known: bool) {
        let said = known.then_some(Addresses { source, destination });
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut bytes = Vec::new();
            write(version, said.as_ref(), &mut bytes);
            prop_assert_eq!(read(&bytes), header(bytes.len(), said));
        }
    }
}
