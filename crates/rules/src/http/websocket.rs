//! WebSockets (RFC 6455): how a handshake is agreed on, and where one frame ends and the next may begin (§5.2) in a stream that is only
//! passed on. What is in the frames is nobody's business here.

use data_encoding::BASE64;
use sha1::{Digest, Sha1};

/// What a server mixes into its answer to a key, to show that it knows what it is asked for (§1.3).
const KNOWS_WEBSOCKET: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A close frame of a server that goes away: status 1001 (RFC 6455 §7.4.1).
pub const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

const OPCODE_CLOSE: u8 = 0x8;

/// `Sec-WebSocket-Key` for 16 random bytes (§4.1).
pub fn key(nonce: [u8; 16]) -> String {
    BASE64.encode(&nonce)
}

/// Whether `key` is one: 16 bytes in Base64 (§4.2.1).
pub fn is_key(key: &[u8]) -> bool {
    BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// The `Sec-WebSocket-Accept` that answers `key` (§4.2.2).
pub fn accept(key: &[u8]) -> String {
    BASE64.encode(&Sha1::new().chain_update(key).chain_update(KNOWS_WEBSOCKET).finalize())
}

/// Whether `accept` is the `Sec-WebSocket-Accept` that answers `key` (§4.2.2).
pub fn is_accepted(key: &[u8], accept: &[u8]) -> bool {
    self::accept(key).as_bytes() == accept
}

/// How far the stream is.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    place: Place,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// Between two frames.
    #[default]
    Between,
    /// In a header of which the opcode was seen.
    Length { opcode: u8 },
    /// In an extended length: so many bytes of it are to come, with the mask behind it if there is one.
    Extended { opcode: u8, left: u8, length: u64, masked: bool },
    /// Masked and unmasked content is of no concern, so the mask counts as content.
    Content { opcode: u8, left: u64 },
}

impl Frames {
    /// Whether a frame of our own may go here: between two frames, and not behind a close, after which none follows.
    pub fn takes_frame(&self) -> bool {
        matches!(self.place, Place::Between) && !self.closed
    }

    /// Whether a close was passed on.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many of `bytes` belong to the frame that is under way; none between two frames.
    pub fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        let mut ahead = self.clone();
        let mut at = 0;
        while at < bytes.len() && !matches!(ahead.place, Place::Between) {
            at += ahead.step(bytes.get(at..).unwrap_or_default());
        }
        at
    }

    /// These bytes were passed on.
    pub fn advance(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += self.step(bytes.get(at..).unwrap_or_default());
        }
    }

    /// Take in the next part of `bytes`, which are not empty; how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let first = bytes.first().copied().unwrap_or_default();
        match self.place {
            Place::Between => {
                self.place = Place::Length { opcode: first & 0x0f };
                1
            }
            Place::Length { opcode } => {
                let masked = first & 0x80 != 0;
                match first & 0x7f {
                    126 => self.place = Place::Extended { opcode, left: 2, length: 0, masked },
                    127 => self.place = Place::Extended { opcode, left: 8, length: 0, masked },
                    length => self.begin_content(opcode, length.into(), masked),
                }
                1
            }
            Place::Extended { opcode, left, length, masked } => {
                let length = (length << 8) | u64::from(first);
                match left {
                    0 | 1 => self.begin_content(opcode, length, masked),
                    left => self.place = Place::Extended { opcode, left: left - 1, length, masked },
                }
                1
            }
            Place::Content { opcode, left } => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                match left - taken as u64 {
                    0 => self.end_frame(opcode),
                    left => self.place = Place::Content { opcode, left },
                }
                taken
            }
        }
    }

    fn begin_content(&mut self, opcode: u8, length: u64, masked: bool) {
        match length.saturating_add(if masked { 4 } else { 0 }) {
            0 => self.end_frame(opcode),
            left => self.place = Place::Content { opcode, left },
        }
    }

    fn end_frame(&mut self, opcode: u8) {
        self.place = Place::Between;
        self.closed |= opcode == OPCODE_CLOSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, mask: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let bit = if mask { 0x80 } else { 0 };
        match length {
            0..=125 => frame.push(bit | length as u8),
            126..=65_535 => {
                frame.push(bit | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0xff, length + if mask { 4 } else { 0 }));
        frame
    }

    #[test]
    fn a_key_is_answered_as_the_rfc_shows() {
        let key = key(*b"the sample nonce");
        assert_eq!(key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert!(is_accepted(key.as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!is_accepted(key.as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOp=") && !is_accepted(key.as_bytes(), b""));
    }

    #[test]
    fn nothing_goes_into_a_frame_or_behind_a_close() {
        let mut frames = Frames::default();
        assert!(frames.takes_frame());
        frames.advance(&[0x81, 0x02, b'h']);
        assert!(!frames.takes_frame());
        assert_eq!(frames.rest_of_frame(b"i\x81\x00"), 1);
        frames.advance(b"i");
        assert!(frames.takes_frame());
        frames.advance(&GOING_AWAY);
        assert!(!frames.takes_frame());
    }

    #[test]
    fn an_endless_length_neither_panics_nor_ends() {
        let mut frames = Frames::default();
        frames.advance(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        frames.advance(&[0; 1000]);
        assert!(!frames.takes_frame());
    }

    proptest! {
        #[test]
        fn every_split_finds_the_same_boundaries(
            parts in proptest::collection::vec((0u8..8, any::<bool>(), prop_oneof![0usize..200, 65_500usize..65_600]), 1..6),
            pieces in proptest::collection::vec(1usize..5000, 1..40),
        ) {
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for (opcode, mask, length) in parts {
                stream.extend(frame(opcode, mask, length));
                ends.push(stream.len());
            }
            let (mut frames, mut at) = (Frames::default(), 0);
            for piece in pieces.iter().cycle() {
                prop_assert_eq!(frames.takes_frame(), ends.contains(&at));
                let next = ends.iter().find(|end| **end >= at).copied().unwrap_or(at);
                prop_assert_eq!(frames.rest_of_frame(&stream[at..]), next - at);
                let end = (at + piece).min(stream.len());
                frames.advance(&stream[at..end]);
                at = end;
                if at == stream.len() {
                    break;
                }
            }
            prop_assert!(frames.takes_frame());
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut frames = Frames::default();
            prop_assert!(frames.rest_of_frame(&bytes) <= bytes.len());
            frames.advance(&bytes);
            prop_assert!(frames.rest_of_frame(&bytes) <= bytes.len());
        }
    }
}
