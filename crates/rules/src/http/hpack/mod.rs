//! Field compression of HTTP/2 (HPACK, RFC 7541): blocks are read strictly, whatever a peer sends, and written small.
//!
//! A connection has one [`Decoder`] and one [`Encoder`], and every block goes through them in its order: both sides keep a table of
//! fields that went by. What a field may be called or hold is not judged here; who reads the block does.

mod decoder;
mod encoder;
mod huffman;
mod table;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// Why a block cannot be read: COMPRESSION_ERROR of the connection (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// The first bit of a representation, or of a string, that means: an indexed field (RFC 7541 §6.1); a string in the Huffman code (§5.2).
const INDEXED: u8 = 0x80;
const CODED: u8 = 0x80;
/// A literal that goes into the table (RFC 7541 §6.2.1).
const KEPT: u8 = 0x40;
/// A new size of the table (RFC 7541 §6.3).
const SIZE: u8 = 0x20;
/// A literal that nobody on the way may put into a table (RFC 7541 §6.2.3).
const NEVER: u8 = 0x10;

#[cfg(test)]
mod tests;
