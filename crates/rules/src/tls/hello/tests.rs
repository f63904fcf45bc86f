use super::*;
use proptest::prelude::*;

/// A vector behind its length.
fn vector(bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn name(host: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &vector(2, &[&[HOST_NAME][..], &vector(2, host)].concat()))
}

fn protocols(names: &[&[u8]]) -> Vec<u8> {
    extension(ALPN, &vector(2, &names.iter().flat_map(|name| vector(1, name)).collect::<Vec<_>>()))
}

/// The message with these extensions; `None`: without a list of them, as SSL 3 and early TLS 1.0 had it.
fn message(extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[9; 32]),
        &vector(2, &[0x13, 1, 0x13, 2]),
        &vector(1, &[0]),
        &extensions.map_or(Vec::new(), |extensions| vector(2, &extensions.concat())),
    ];
    [&[CLIENT_HELLO][..], &vector(3, &body.concat())].concat()
}

/// In records of so many bytes.
fn records(message: &[u8], of: usize) -> Vec<u8> {
    message.chunks(of).flat_map(|content| [&[HANDSHAKE, 3, 1][..], &vector(2, content)].concat()).collect()
}

fn whole(bytes: &[u8]) -> Result<First, BadHello> {
    HelloReader::default().take(bytes)
}

fn hello(sni: Option<&str>, alpn: Option<&str>) -> Result<First, BadHello> {
    Ok(First::Hello(Hello { sni: sni.map(str::to_owned), alpn: alpn.map(str::to_owned) }))
}

#[test]
fn what_is_asked_for_is_found() {
    let grease = extension(0x0a0a, &[]);
    let asked = [grease, protocols(&[b"h2", b"http/1.1"]), name(b"Shop.Example."), extension(43, &[2, 3, 4])];
    for of in [1, 2, 5, 100, 1 << 14] {
        assert_eq!(whole(&records(&message(Some(&asked)), of)), hello(Some("shop.example"), Some("h2")));
    }
    assert_eq!(whole(&records(&message(Some(&[])), 512)), hello(None, None));
    assert_eq!(whole(&records(&message(None), 512)), hello(None, None));
    assert_eq!(whole(&records(&message(Some(&[protocols(&[b"\xff"])])), 512)), hello(None, None));
    // What follows in the same breath is not the hello's.
    let early = [records(&message(Some(&asked)), 512), vec![23, 3, 3, 0, 1, 0]].concat();
    assert_eq!(whole(&early), hello(Some("shop.example"), Some("h2")));
}

#[test]
fn what_is_no_tls_is_told_by_its_first_byte() {
    for bytes in [&b"GET / HTTP/1.1"[..], b"\0\0\0\x08\x04\xd2\x16\x2f", b"SSH-2.0", &[0x80, 46, 1, 3, 1]] {
        assert_eq!(whole(bytes), Ok(First::Other));
    }
    assert_eq!(whole(b""), Ok(First::Partial));
    assert_eq!(whole(&[HANDSHAKE]), Ok(First::Partial));
}

#[test]
fn what_two_could_read_differently_is_refused() {
    let wrong: [Vec<Vec<u8>>; 9] = [
        vec![name(b"a.example"), name(b"b.example")],
        vec![protocols(&[b"h2"]), protocols(&[b"h2"])],
        vec![name(b"")],
        vec![name(b"a\0.example")],
        vec![name(b"a b")],
        vec![extension(SERVER_NAME, &[])],
        vec![extension(SERVER_NAME, &vector(2, &[]))],
        vec![protocols(&[b"h2", b""])],
        vec![[name(b"a.example"), vec![0]].concat()],
    ];
    for extensions in wrong {
        assert_eq!(whole(&records(&message(Some(&extensions)), 512)), Err(BadHello), "{extensions:?}");
    }
    for bytes in
        [&[HANDSHAKE, 2][..], &[HANDSHAKE, 3, 1, 0, 0], &[HANDSHAKE, 3, 1, 0x40, 1], &[HANDSHAKE, 3, 3, 0, 1, 2]]
    {
        assert_eq!(whole(bytes), Err(BadHello), "{bytes:?}");
    }
}

#[test]
fn one_that_never_ends_is_given_up() {
    let endless = [&[CLIENT_HELLO, 0xff, 0xff, 0xff][..], &[0; 64]].concat();
    assert_eq!(whole(&records(&endless, 512)), Err(BadHello));
    // A length that is allowed, and then records of one byte each.
    let slow = records(&[&[CLIENT_HELLO, 0, 0x3f, 0xff][..], &[0; LONGEST]].concat(), 1);
    let mut reader = HelloReader::default();
    let given_up = slow.chunks(6).position(|piece| reader.take(piece).is_err());
    assert_eq!(given_up, Some(LONGEST.div_ceil(6) - 1));
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        host in "[a-z]{1,20}(\\.[a-z]{1,9}){0,3}",
        of in 1_usize..600,
        cuts in proptest::collection::vec(1_usize..300, 0..20),
        broken in proptest::option::of((any::<usize>(), any::<u8>())),
    ) {
        let mut bytes = records(&message(Some(&[name(host.as_bytes()), protocols(&[b"h2"])])), of);
        if let Some((at, byte)) = broken {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let at_once = whole(&bytes);
        let (mut reader, mut rest, mut pieces) = (HelloReader::default(), &bytes[..], Ok(First::Partial));
        for cut in cuts.into_iter().chain(std::iter::once(usize::MAX)) {
            if pieces != Ok(First::Partial) || rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces = reader.take(piece);
            rest = behind;
        }
        prop_assert_eq!(&pieces, &at_once);
        if broken.is_none() {
            prop_assert_eq!(at_once, hello(Some(&host), Some("h2")));
        }
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = whole(&[&[HANDSHAKE, 3, 1][..], &vector(2, &[&[CLIENT_HELLO][..], &vector(3, &bytes)].concat())].concat());
        let _ = whole(&bytes);
    }
}
