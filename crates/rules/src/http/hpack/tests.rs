//! The examples of RFC 7541 Appendix C, each way for a block to be broken, and that what is written reads the same.

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::table::STATIC;
use super::{Broken, huffman};
use proptest::prelude::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Broken> {
    let mut fields = Fields::new();
    decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

fn once(block: &[u8]) -> Result<Fields, Broken> {
    read(&mut Decoder::new(4096), block)
}

/// One `name: value` a line.
fn fields(lines: &str) -> Fields {
    let lines = lines.lines().map(str::trim_start).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// Fields of the blocks of one connection, and what they are in bytes.
const REQUESTS: [(&str, &str, &str); 3] = [
    (
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    ),
    (
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8286 84be 5886 a8eb 1064 9cbf",
    ),
    (
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ),
];

const RESPONSES: [(&str, &str, &str); 3] = [
    (
        ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718
         63c7 8f0b 97c8 e9ae 82ae 43d3",
    ),
    (
        ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
        "4803 3330 37c1 c0bf",
        "4883 640e ffc1 c0bf",
    ),
    (
        ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com
         content-encoding: gzip
         set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738
         666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33
         3630 303b 2076 6572 7369 6f6e 3d31",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
         b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ),
];

#[test]
fn examples_of_single_fields_are_read() {
    for (block, line) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header"),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path"),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret"),
        ("82", ":method: GET"),
    ] {
        assert_eq!(once(&hex(block)), Ok(fields(line)), "{block}");
    }
}

#[test]
fn examples_of_connections_are_read() {
    for (most, blocks) in [(4096, &REQUESTS), (256, &RESPONSES)] {
        let (mut plain, mut coded) = (Decoder::new(most), Decoder::new(most));
        for (lines, in_plain, in_code) in blocks {
            assert_eq!(read(&mut plain, &hex(in_plain)), Ok(fields(lines)));
            assert_eq!(read(&mut coded, &hex(in_code)), Ok(fields(lines)));
        }
    }
}

#[test]
fn examples_are_written() {
    let mut encoder = Encoder::new();
    for (lines, _, in_code) in &REQUESTS {
        assert_eq!(write(&mut encoder, &fields(lines), true), hex(in_code));
    }
    let mut encoder = Encoder::new();
    encoder.limit(256);
    let size = hex("3f e101");
    let [(first, _, first_block), (second, ..), (third, ..)] = RESPONSES;
    assert_eq!(write(&mut encoder, &fields(first), true), [size, hex(first_block)].concat());
    // The example has its `307` in the code though it is no shorter so, and keeps a cookie.
    assert_eq!(write(&mut encoder, &fields(second), true), hex("4803 3330 37 c1c0bf"));
    let cookie = hex(
        "0f28 ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    );
    let third_block = [hex("88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab"), cookie];
    assert_eq!(write(&mut encoder, &fields(third), true), third_block.concat());
}

fn write(encoder: &mut Encoder, fields: &Fields, keep: bool) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value) in fields {
        match str::from_utf8(value).ok().and_then(|value| value.parse().ok()).filter(|_| name == b":status") {
            Some(status) => encoder.status(status, &mut block),
            None => encoder.field(name, value, keep, &mut block),
        }
    }
    block
}

#[test]
fn every_static_entry_is_found() {
    for (at, (name, value)) in STATIC.iter().enumerate() {
        let secret = [&b"authorization"[..], b"proxy-authorization", b"cookie", b"set-cookie"].contains(name);
        let mut out = Vec::new();
        Encoder::new().field(name, value, false, &mut out);
        assert_eq!(out == [0x81 + at as u8], !secret, "{at}");
    }
}

#[test]
fn what_is_secret_is_not_kept() {
    let mut encoder = Encoder::new();
    let mut first = |name: &[u8], value: &[u8]| {
        let mut out = Vec::new();
        encoder.field(name, value, true, &mut out);
        out[0]
    };
    for round in 0..2 {
        assert_eq!(first(b"Authorization", b"Basic dXNlcjpwYXNzd29yZA=="), 0x1f, "{round}");
        assert_eq!(first(b"proxy-authorization", b"x"), 0x1f);
        assert_eq!(first(b"Cookie", b"a=b"), 0x1f);
        assert_eq!(first(b"set-cookie", b"a=b"), 0x1f);
        assert_eq!(first(b"cookie", b"id=0123456789abcdef0"), 0x0f);
        assert_eq!(first(b"set-cookie", b"id=0123456789abcdef0"), 0x0f);
    }
}

#[test]
fn what_is_kept_is_named_later() {
    let mut encoder = Encoder::new();
    let (mut first, mut second, mut unkept) = (Vec::new(), Vec::new(), Vec::new());
    encoder.field(b"Server", b"a", true, &mut first);
    encoder.status(503, &mut first);
    encoder.field(b"X-Long-Name-Of-Somebody-Which-Is-Longer-Than-48-Bytes", b"", true, &mut first);
    encoder.field(b"SERVER", b"a", true, &mut second);
    encoder.status(503, &mut second);
    encoder.field(b"x-long-name-of-somebody-which-is-longer-than-48-bytes", b"", true, &mut second);
    assert_eq!(second, [0xc0, 0xbf, 0xbe]);
    // As long as is written plain, and one byte more.
    encoder.field(b"etag", b"\"0123456789abcdef012345\"", false, &mut unkept);
    assert_eq!(unkept, b"\x0f\x13\x18\"0123456789abcdef012345\"");
    unkept.clear();
    encoder.field(b"etag", b"\"0123456789abcdef0123456\"", false, &mut unkept);
    assert_eq!(unkept[..3], [0x0f, 0x13, 0x80 | 19]);
    // Larger than the table: nothing is thrown out for it.
    encoder.field(b"server", &[b'a'; 4097], true, &mut Vec::new());
    second.clear();
    encoder.field(b"server", b"a", true, &mut second);
    assert_eq!(second, [0xc0]);
}

#[test]
fn changes_of_the_limit_are_told() {
    let begin = |limits: &[usize]| {
        let mut encoder = Encoder::new();
        let mut out = Vec::new();
        encoder.begin(&mut out);
        assert!(out.is_empty());
        limits.iter().for_each(|&limit| encoder.limit(limit));
        encoder.begin(&mut out);
        let told = out.clone();
        encoder.begin(&mut out);
        assert_eq!(out, told, "told twice");
        told
    };
    assert_eq!(begin(&[]), b"");
    assert_eq!(begin(&[4096]), b"");
    assert_eq!(begin(&[65536]), b"");
    assert_eq!(begin(&[10]), [0x2a]);
    assert_eq!(begin(&[100, 10]), [0x2a]);
    assert_eq!(begin(&[10, 20]), [0x2a, 0x34]);
    assert_eq!(begin(&[20, 10, 20]), [0x2a, 0x34]);
    assert_eq!(begin(&[0, 4096]), hex("20 3fe11f"));
    assert_eq!(begin(&[0, 1 << 20]), hex("20 3fe11f"));
}

#[test]
fn numbers_are_bounded() {
    // RFC 7541 C.1.1-2, and sizes of more and more bytes.
    let sizes =
        [("2a", Ok(10)), ("3f9a0a", Ok(1337)), ("3f00", Ok(31)), ("3f80808000", Ok(31)), ("3f8080808000", Err(Broken))];
    for (block, size) in sizes {
        assert_eq!(once(&hex(block)), size.map(|_| vec![]), "{block}");
        if let Ok(size) = size {
            assert_eq!(read(&mut Decoder::new(size), &hex(block)), Ok(vec![]));
            assert_eq!(read(&mut Decoder::new(size - 1), &hex(block)), Err(Broken));
        }
    }
    for block in
        ["ffffffffffffff7f", "ffffffff7f", "7fffffff7f 00", "0fffffff7f 00", "00 7fffffffff0f", "00 7fffffff7f"]
    {
        assert_eq!(once(&hex(block)), Err(Broken), "{block}");
    }
}

#[test]
fn an_index_that_no_table_has_is_broken() {
    for block in ["80", "be", "ff00", "7e 00", "0f2f 00", "1f2f 00"] {
        assert_eq!(once(&hex(block)), Err(Broken), "{block}");
    }
    assert_eq!(once(&hex("bd")), Ok(fields("www-authenticate: ")));
    // One entry: 62 is there, 63 is not.
    assert_eq!(once(&hex("4001 61 01 62 be")), Ok(fields("a: b\na: b")));
    assert_eq!(once(&hex("4001 61 01 62 bf")), Err(Broken));
    assert_eq!(once(&hex("4001 61 01 62 7e 01 63 bf be")), Ok(fields("a: b\na: c\na: b\na: c")));
}

#[test]
fn a_size_of_the_table_is_allowed_only_where_a_block_begins() {
    assert_eq!(once(&hex("20 3fe11f 82")), Ok(fields(":method: GET")));
    for block in ["82 20", "20 20 20", "20 82 20", "3fe21f", "82 3fe11f"] {
        assert_eq!(once(&hex(block)), Err(Broken), "{block}");
    }
    let mut decoder = Decoder::new(4096);
    assert_eq!(read(&mut decoder, &hex("4001 61 01 62")), Ok(fields("a: b")));
    assert_eq!(read(&mut decoder, &hex("be")), Ok(fields("a: b")));
    assert_eq!(read(&mut decoder, &hex("20 be")), Err(Broken));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(64);
    assert_eq!(read(&mut decoder, &hex("4001 61 01 62 be")), Ok(fields("a: b\na: b")));
    let large = [hex("4001 61 1f"), vec![b'c'; 31]].concat();
    assert_eq!(read(&mut decoder, &large).map(|fields| fields.len()), Ok(1));
    assert_eq!(read(&mut decoder, &large).map(|fields| fields.len()), Ok(1));
    assert_eq!(read(&mut decoder, &hex("be")), Ok(fields(&format!("a: {}", "c".repeat(31)))));
    let larger = [hex("7e 20"), vec![b'c'; 32]].concat();
    assert_eq!(read(&mut decoder, &larger).map(|fields| fields.len()), Ok(1));
    assert_eq!(read(&mut decoder, &hex("be")), Err(Broken));
}

#[test]
fn strings_wrongly_coded_are_broken() {
    for (value, read) in [
        // `a` is 00011; padding of ones, with a zero, of zeros.
        ("81 1f", Ok("a")),
        ("81 1d", Err(Broken)),
        ("81 18", Err(Broken)),
        // A whole byte of padding, alone and behind a symbol; `X` is 11111100, of which nothing is left.
        ("81 ff", Err(Broken)),
        ("82 1fff", Err(Broken)),
        ("81 fc", Ok("X")),
        ("82 fcff", Err(Broken)),
        ("80", Ok("")),
        // The end: in front, behind a symbol, and far behind many.
        ("84 ffffffff", Err(Broken)),
        ("84 fffffffc", Err(Broken)),
        ("85 1fffffffff", Err(Broken)),
        ("8a 18c6318c63 ffffffffff", Err(Broken)),
    ] {
        let block = [hex("00 01 61"), hex(value)].concat();
        assert_eq!(once(&block), read.map(|value| fields(&format!("a: {value}"))), "{value}");
    }
}

#[test]
fn a_cut_block_is_broken() {
    let mut encoder = Encoder::new();
    let mut block = Vec::new();
    encoder.limit(10);
    encoder.limit(2000);
    encoder.begin(&mut block);
    // Behind nothing, and each of the two sizes.
    let mut ends = vec![0, 1, block.len()];
    encoder.status(503, &mut block);
    ends.push(block.len());
    for (name, value, keep) in [
        ("x-a", "some value that is long enough", true),
        ("x-a", "some value that is long enough", true),
        ("content-length", "12345", false),
        ("authorization", "Bearer 0123456789abcdefghijklmnopqrstuvwxyz", false),
        ("x-long", &"v".repeat(300), false),
        ("etag", "\u{1}\u{2}\u{3}", true),
    ] {
        encoder.field(name.as_bytes(), value.as_bytes(), keep, &mut block);
        ends.push(block.len());
    }
    for end in 0..=block.len() {
        assert_eq!(once(&block[..end]).is_ok(), ends.contains(&end), "{end}");
    }
}

#[test]
fn room_for_strings_is_given_back() {
    let text = vec![b'0'; 100_000];
    let mut block = Vec::new();
    Encoder::new().field(b"a", &text, false, &mut block);
    let mut decoder = Decoder::new(4096);
    assert_eq!(read(&mut decoder, &block), Ok(vec![(b"a".to_vec(), text)]));
    assert!(decoder.memory() <= 16 * 1024, "{}", decoder.memory());
}

proptest! {
    #[test]
    fn every_string_reads_the_same_in_the_code(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut coded = Vec::new();
        huffman::encode(&text, &mut coded);
        prop_assert_eq!(coded.len(), huffman::length(&text));
        let mut room = vec![0; huffman::room(coded.len())];
        prop_assert_eq!(huffman::decode(&coded, &mut room), Ok(text.len()));
        prop_assert_eq!(&room[..text.len()], &text[..]);
    }

    #[test]
    fn what_is_written_reads_the_same(
        blocks in prop::collection::vec(
            (prop::collection::vec(0usize..6000, 0..3), prop::collection::vec((name(), value(), any::<bool>()), 0..12)),
            1..12,
        ),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for (limits, written) in blocks {
            let (mut block, mut expected) = (Vec::new(), Fields::new());
            limits.iter().for_each(|&limit| encoder.limit(limit));
            encoder.begin(&mut block);
            for (name, value, keep) in written {
                encoder.field(&name, &value, keep, &mut block);
                expected.push((name.to_ascii_lowercase(), value));
            }
            encoder.status(421, &mut block);
            expected.push((b":status".to_vec(), b"421".to_vec()));
            prop_assert_eq!(read(&mut decoder, &block), Ok(expected));
        }
    }

    #[test]
    fn every_cut_but_behind_a_field_is_broken(written in prop::collection::vec((name(), value(), any::<bool>()), 1..5)) {
        let (mut encoder, mut block, mut ends) = (Encoder::new(), Vec::new(), vec![0]);
        for (name, value, keep) in written {
            // Not too long to be cut everywhere.
            encoder.field(&name, value.get(..200).unwrap_or(&value), keep, &mut block);
            ends.push(block.len());
        }
        for end in 0..=block.len() {
            prop_assert_eq!(once(&block[..end]).is_ok(), ends.contains(&end), "{}", end);
        }
    }

    #[test]
    fn any_bytes_are_read_or_broken_and_bounded(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..40),
        most in prop_oneof![Just(0usize), 0usize..300, Just(4096)],
    ) {
        let mut decoder = Decoder::new(most);
        for block in blocks {
            let _ = read(&mut decoder, &block);
            prop_assert!(decoder.size() <= most);
            prop_assert!(decoder.memory() <= 2 * most + 80 * 4, "{}", decoder.memory());
        }
    }

    #[test]
    fn blocks_that_are_nearly_right_are_read_or_broken(
        parts in prop::collection::vec(
            prop_oneof![
                (0x80u8..).prop_map(|byte| vec![byte]),
                (0x3eu8..0x42, prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(first, value)| {
                    [&[first, 1, b'a', value.len() as u8], &value[..]].concat()
                }),
                (0x40u8..0x80, prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(first, value)| {
                    [&[first, 0x80 | value.len() as u8], &value[..]].concat()
                }),
                (0u8..0x40).prop_map(|byte| vec![byte, 1, b'b']),
            ],
            0..60,
        ),
        most in 0usize..400,
    ) {
        let mut decoder = Decoder::new(most);
        for part in parts {
            let _ = read(&mut decoder, &part);
            prop_assert!(decoder.size() <= most);
        }
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            &b":path"[..],
            b":method",
            b"Content-Type",
            b"COOKIE",
            b"Set-Cookie",
            b"authorization",
            b"x-a",
            b"X-B",
            b"age",
            b"Etag",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![&b""[..], b"/", b"GET", b"gzip, deflate", b"a", b"text/html; charset=utf-8"])
            .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..300),
        (0usize..5000).prop_map(|length| vec![b'e'; length]),
    ]
}
