//! Reads blocks (RFC 7541 §3, 6).

use super::table::{FIRST_DYNAMIC, Name, Pair, STATIC, Table};
use super::{Broken, CODED, INDEXED, KEPT, NEVER, SIZE, huffman};
use std::fmt;

/// Bytes of the longest number behind its first byte: all that is below 2^28.
const LONGEST_NUMBER: usize = 4;
/// Changes of the table's size at the begin of a block: the smallest since the last block, and the last (RFC 7541 §4.2).
const MOST_SIZES: usize = 2;
/// Bytes for strings that are kept from block to block.
const KEPT_ROOM: usize = 16 * 1024;

/// Reads blocks of one connection, in their order.
///
/// A broken block leaves it of no use: the connection ends with it.
pub struct Decoder {
    table: Table,
    /// What the peer may make of the table's size.
    most: usize,
    /// Where strings in the Huffman code are written to. As long as was ever needed, so that it is not cleared each time.
    room: Vec<u8>,
}

impl Decoder {
    /// `most`: bytes of the dynamic table that the peer may use (our SETTINGS_HEADER_TABLE_SIZE; RFC 7541 §4.2). A peer that has not read
    /// our settings yet uses 4096, so that less would read it wrong.
    pub fn new(most: usize) -> Decoder {
        let table = Table::new(most);
        Decoder { most: table.most(), table, room: Vec::new() }
    }

    /// Decode one whole block, whose fields are told to `field` in order as (name, value). A block that is broken may have told some
    /// already.
    ///
    /// # Errors
    /// [`Broken`]: a number without end or beyond 2^28, an index that no table has, a string that is cut or wrongly coded (RFC 7541
    /// §5.2), a size of the table that is not allowed, or not here (§4.2).
    pub fn decode(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Broken> {
        let read = self.read(block, &mut field);
        if self.room.len() > KEPT_ROOM {
            self.room.truncate(KEPT_ROOM);
            self.room.shrink_to_fit();
        }
        read
    }

    fn read(&mut self, block: &[u8], field: &mut impl FnMut(&[u8], &[u8])) -> Result<(), Broken> {
        let mut rest = self.sizes(block)?;
        while let Some((&first, behind)) = rest.split_first() {
            rest = if first & INDEXED != 0 {
                let (index, behind) = number(first, 7, behind)?;
                let (name, value) = self.indexed(index)?;
                field(name, value);
                behind
            } else if first & KEPT != 0 {
                self.literal(number(first, 6, behind)?, true, field)?
            } else if first & SIZE != 0 {
                return Err(Broken);
            } else {
                // With or without the bit of NEVER: what goes on from here is written anew.
                const { assert!(NEVER == 1 << 4) };
                self.literal(number(first, 4, behind)?, false, field)?
            };
        }
        Ok(())
    }

    /// Changes of the table's size, which only the begin of a block may have (RFC 7541 §4.2).
    fn sizes<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], Broken> {
        let mut rest = block;
        for _ in 0..MOST_SIZES {
            let Some((&first, behind)) = rest.split_first() else { break };
            if first & (INDEXED | KEPT | SIZE) != SIZE {
                break;
            }
            let (size, behind) = number(first, 5, behind)?;
            if size > self.most {
                return Err(Broken);
            }
            self.table.resize(size);
            rest = behind;
        }
        Ok(rest)
    }

    fn indexed(&self, index: usize) -> Result<Pair<'_>, Broken> {
        match index.checked_sub(FIRST_DYNAMIC) {
            None => STATIC.get(index.wrapping_sub(1)).copied(),
            Some(back) => self.table.get(back),
        }
        .ok_or(Broken)
    }

    /// A literal whose name has this index, or is in front of its value where that is 0 (RFC 7541 §6.2). What is behind it.
    fn literal<'a>(
        &mut self,
        (index, rest): (usize, &'a [u8]),
        kept: bool,
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<&'a [u8], Broken> {
        let (name, rest) = if index == 0 { text(rest)? } else { (Text::default(), rest) };
        let (value, rest) = text(rest)?;
        let needed = name.room() + value.room();
        if self.room.len() < needed {
            self.room.resize(needed, 0);
        }
        let (name_room, value_room) = self.room.split_at_mut_checked(name.room()).ok_or(Broken)?;
        let value = value.read(value_room)?;
        let source = match index.checked_sub(FIRST_DYNAMIC) {
            Some(back) => Name::Back(back),
            None if index == 0 => Name::Given(name.read(name_room)?),
            None => Name::Given(STATIC.get(index - 1).ok_or(Broken)?.0),
        };
        let name = match source {
            Name::Given(name) => name,
            Name::Back(back) => self.table.get(back).ok_or(Broken)?.0,
        };
        field(name, value);
        if kept {
            self.table.insert(source, value);
        }
        Ok(rest)
    }
}

#[cfg(test)]
impl Decoder {
    pub(super) fn size(&self) -> usize {
        self.table.size()
    }

    /// Bytes that fields take.
    pub(super) fn memory(&self) -> usize {
        self.table.memory() + self.room.capacity()
    }
}

/// No bytes: what they say may be secret.
impl fmt::Debug for Decoder {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Decoder").field("table", &self.table).finish_non_exhaustive()
    }
}

/// A number that begins in the last `bits` of `first`, and what is behind it (RFC 7541 §5.1).
#[inline]
fn number(first: u8, bits: u32, rest: &[u8]) -> Result<(usize, &[u8]), Broken> {
    let full = u8::MAX >> (8 - bits);
    let begin = first & full;
    if begin < full { Ok((usize::from(begin), rest)) } else { long_number(full, rest) }
}

fn long_number(full: u8, rest: &[u8]) -> Result<(usize, &[u8]), Broken> {
    let mut number = usize::from(full);
    for (at, &byte) in rest.iter().take(LONGEST_NUMBER).enumerate() {
        number += usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, rest.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(Broken)
}

/// A string as it is in a block.
#[derive(Clone, Copy, Default)]
struct Text<'a> {
    bytes: &'a [u8],
    coded: bool,
}

impl<'a> Text<'a> {
    /// Bytes that it may need elsewhere to be read.
    fn room(self) -> usize {
        if self.coded { huffman::room(self.bytes.len()) } else { 0 }
    }

    fn read(self, room: &'a mut [u8]) -> Result<&'a [u8], Broken> {
        if !self.coded {
            return Ok(self.bytes);
        }
        let length = huffman::decode(self.bytes, room)?;
        room.get(..length).ok_or(Broken)
    }
}

/// A string, and what is behind it (RFC 7541 §5.2).
fn text(rest: &[u8]) -> Result<(Text<'_>, &[u8]), Broken> {
    let (&first, behind) = rest.split_first().ok_or(Broken)?;
    let (length, behind) = number(first, 7, behind)?;
    let (bytes, behind) = behind.split_at_checked(length).ok_or(Broken)?;
    Ok((Text { bytes, coded: first & CODED != 0 }, behind))
}
