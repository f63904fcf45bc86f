//! Writes blocks (RFC 7541 §2.4, 6): small, and cheap to write.

use super::table::{FIRST_DYNAMIC, Name, STATIC, Table, cost, index_of};
use super::{CODED, INDEXED, KEPT, NEVER, SIZE, huffman};

/// Bytes of our table at most, which are also what each connection begins with (RFC 9113 §6.5.2).
const MOST: usize = 4096;
/// A value that is not kept is put into the Huffman code if it is longer: below, what is saved is not worth the work.
const LONG: usize = 24;
/// A cookie that is shorter could be guessed, one part after the other, where somebody sees how well it is compressed (RFC 7541 §7.1.3).
const SHORT_COOKIE: usize = 20;
/// Bytes of a name that is brought to lower case without memory of its own.
const SHORT_NAME: usize = 48;
/// Bytes of a value that its hash is made of: most differ there or in their length.
const HASHED: usize = 64;
/// Fields whose place in the table is remembered. The table has hardly more.
const PLACES: usize = 64;

/// Indices in the static table (RFC 7541 Appendix A).
const STATUS_200: u8 = 8;
/// From here on each name has one entry.
const FIRST_SINGLE: usize = 15;
const AUTHORIZATION: usize = 23;
const COOKIE: usize = 32;
const PROXY_AUTHORIZATION: usize = 49;
const SET_COOKIE: usize = 55;

/// Writes blocks of one connection, in their order.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// Where fields were put, by their hash: the newest of those that share a place here. Empty before the first.
    places: Vec<Place>,
    /// Fields that were put into the table so far.
    inserted: u32,
    /// Bytes that the table may have from the next block on.
    most: usize,
    /// The least that it was allowed since the last block.
    least: usize,
}

/// Where a field was put: the hash of its name and value, and how many were there before it.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    hash: u32,
    number: u32,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    /// One whose table has 4096 bytes until the peer allows less. It never has more.
    pub fn new() -> Encoder {
        Encoder { table: Table::new(MOST), places: Vec::new(), inserted: 0, most: MOST, least: MOST }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE, in bytes: the next block begins with the change if there is one (RFC 7541 §4.2).
    pub fn limit(&mut self, most: usize) {
        self.most = most.min(MOST);
        self.least = self.least.min(self.most);
    }

    /// Every block begins with this: it tells what [`Encoder::limit`] has changed (RFC 7541 §6.3).
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        // The smallest too: what did not fit then has fallen out of the peer's table.
        if self.least < self.table.most() {
            self.resize(self.least, out);
        }
        if self.most != self.table.most() {
            self.resize(self.most, out);
        }
        self.least = self.most;
    }

    /// `:status`, of three digits (RFC 9113 §8.3.2).
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let at = match status {
            200 => 0,
            204 => 1,
            206 => 2,
            304 => 3,
            400 => 4,
            404 => 5,
            500 => 6,
            _ => return self.write(b":status", itoa::Buffer::new().format(status).as_bytes(), true, out),
        };
        out.push(INDEXED | (STATUS_200 + at));
    }

    /// One field. `name` may come in any case and is written in lower case (ASCII). `keep`: it is likely to come again with the same value,
    /// so it goes into the dynamic table and is looked for there, unless it is a credential or a cookie, or larger than the table.
    pub fn field(&mut self, name: &[u8], value: &[u8], keep: bool, out: &mut Vec<u8>) {
        if !name.iter().any(u8::is_ascii_uppercase) {
            return self.write(name, value, keep, out);
        }
        let mut short = [0; SHORT_NAME];
        match short.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                self.write(lower, value, keep, out);
            }
            None => self.write(&name.to_ascii_lowercase(), value, keep, out),
        }
    }

    fn resize(&mut self, size: usize, out: &mut Vec<u8>) {
        number(size, 5, SIZE, out);
        self.table.resize(size);
    }

    /// One field with a name in lower case.
    fn write(&mut self, name: &[u8], value: &[u8], keep: bool, out: &mut Vec<u8>) {
        let index = index_of(name).unwrap_or(0);
        match index {
            AUTHORIZATION | PROXY_AUTHORIZATION => return literal(NEVER, index, name, value, out),
            COOKIE | SET_COOKIE if value.len() < SHORT_COOKIE => return literal(NEVER, index, name, value, out),
            COOKIE | SET_COOKIE => return literal(0, index, name, value, out),
            _ => {}
        }
        if let Some(index) = static_match(index, name, value) {
            return number(index, 7, INDEXED, out);
        }
        if !keep || cost(name, value) > self.table.most() {
            return literal(0, index, name, value, out);
        }
        let hash = hash(name, value);
        if let Some(back) = self.find(hash, name, value) {
            return number(FIRST_DYNAMIC + back, 7, INDEXED, out);
        }
        literal(KEPT, index, name, value, out);
        self.table.insert(Name::Given(name), value);
        self.places.resize(PLACES, Place::default());
        if let Some(place) = self.places.get_mut(hash as usize % PLACES) {
            *place = Place { hash, number: self.inserted };
        }
        self.inserted = self.inserted.wrapping_add(1);
    }

    /// How far back in the table this field is, if it is known to be there. One that is not found is put there once more.
    fn find(&self, hash: u32, name: &[u8], value: &[u8]) -> Option<usize> {
        let place = self.places.get(hash as usize % PLACES).filter(|place| place.hash == hash)?;
        let back = self.inserted.wrapping_sub(place.number).wrapping_sub(1) as usize;
        (self.table.get(back)? == (name, value)).then_some(back)
    }
}

/// The static entry with this name and value; `index` is the first with the name, or 0.
fn static_match(index: usize, name: &[u8], value: &[u8]) -> Option<usize> {
    let same = STATIC.get(index.checked_sub(1)?..)?;
    if index >= FIRST_SINGLE {
        let (_, only) = same.first()?;
        return (*only == value).then_some(index);
    }
    same.iter().take_while(|(other, _)| *other == name).position(|(_, other)| *other == value).map(|at| index + at)
}

/// A literal of this kind (RFC 7541 §6.2), with its name where no `index` has it.
fn literal(kind: u8, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // What is kept is written once and names itself later: so small as can be.
    let (bits, long) = if kind == KEPT { (6, 0) } else { (4, LONG) };
    number(index, bits, kind, out);
    if index == 0 {
        text(name, long, out);
    }
    text(value, long, out);
}

/// A string (RFC 7541 §5.2), in the Huffman code if it is longer than `long` and shorter so.
fn text(text: &[u8], long: usize, out: &mut Vec<u8>) {
    if text.len() > long {
        let coded = huffman::length(text);
        if coded < text.len() {
            number(coded, 7, CODED, out);
            return huffman::encode(text, out);
        }
    }
    number(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

/// A number that begins in the last `bits` of a byte whose first are those of `kind` (RFC 7541 §5.1).
fn number(number: usize, bits: u32, kind: u8, out: &mut Vec<u8>) {
    let full = u8::MAX >> (8 - bits);
    if number < usize::from(full) {
        // It is less than 255.
        return out.push(kind | number as u8);
    }
    out.push(kind | full);
    let mut rest = number - usize::from(full);
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Tells fields apart cheaply. Whoever makes fields alike to it gains nothing: each is then compared with a table of 4 KB.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let begin = value.get(..HASHED).unwrap_or(value);
    let lengths = (name.len() as u64) << 32 ^ value.len() as u64;
    (mix(mix(lengths, name), begin) >> 32) as u32
}

fn mix(hash: u64, bytes: &[u8]) -> u64 {
    // An odd number without a pattern: 2^64 divided by the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(SPREAD);
    let Some(end) = bytes.last_chunk::<8>() else {
        return step(hash, bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
    };
    // The last eight once more, where some are left over.
    let (words, _) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
    step(hash, u64::from_le_bytes(*end))
}
