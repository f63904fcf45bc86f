//! Blocks of fields of one connection: bounded by their bytes and the table, and the same when they are written and read again.

use crate::written::shown;
use penstock_rules::http::hpack::{Broken, Decoder, Encoder};

/// Bytes of a table that one unit of the input's first byte stands for: up to twice what is usual.
const TABLE_UNIT: usize = 32;
/// Bytes that the peer's table has unless it says otherwise (RFC 9113 §6.5.2).
const USUAL_TABLE: usize = 4096;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Check one input: the size of the table, then blocks, each behind a byte that is its length.
pub fn check(bytes: &[u8]) {
    let Some((&table, mut rest)) = bytes.split_first() else { return };
    let most = usize::from(table) * TABLE_UNIT;
    let mut peer = Decoder::new(most);
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(USUAL_TABLE));
    while let Some((&length, behind)) = rest.split_first() {
        let (block, next) = behind.split_at(usize::from(length).min(behind.len()));
        // A connection ends with the first broken block.
        let Ok(fields) = read(&mut peer, block) else { return };
        check_bounds(&fields, block, most);
        check_written(&fields, block, &mut encoder, &mut decoder);
        rest = next;
    }
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Broken> {
    let mut fields = Fields::new();
    decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

/// No byte makes more than one field, and none is longer than the table, a static entry, or its bytes at five bits a symbol.
fn check_bounds(fields: &Fields, block: &[u8], most: usize) {
    assert!(fields.len() <= block.len(), "more fields than bytes: {}", shown(block));
    let longest = most.max(64) + block.len() * 8 / 5;
    assert!(fields.iter().all(|(name, value)| name.len() + value.len() <= longest), "longer than {}", shown(block));
}

/// Written by us, with what is kept and how large the table may be taken from the block, they read the same.
fn check_written(fields: &Fields, block: &[u8], encoder: &mut Encoder, decoder: &mut Decoder) {
    for &limit in block.iter().take(2).filter(|limit| **limit < 0x80) {
        encoder.limit(usize::from(limit) * TABLE_UNIT);
    }
    let (mut written, mut expected) = (Vec::new(), Fields::new());
    encoder.begin(&mut written);
    for (name, value) in fields {
        match status(name, value) {
            Some(status) => encoder.status(status, &mut written),
            None => encoder.field(name, value, value.len() % 2 == 0, &mut written),
        }
        expected.push((name.to_ascii_lowercase(), value.clone()));
    }
    assert_eq!(read(decoder, &written), Ok(expected), "written as {}", shown(&written));
}

fn status(name: &[u8], value: &[u8]) -> Option<u16> {
    let is_status = name == b":status" && value.len() == 3 && value.iter().all(u8::is_ascii_digit) && value[0] != b'0';
    str::from_utf8(value).ok().filter(|_| is_status)?.parse().ok()
}
