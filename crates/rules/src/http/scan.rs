//! Finding the end of a head as its bytes come in, without reading a byte twice.

use crate::error::Kind;
use memchr::memchr_iter;
use wide::i8x32;

/// Bytes that are looked at together. Lines are short: a search that begins anew behind each costs more than the line.
const BLOCK: usize = 32;

/// Looks for the blank line that ends a head; a lone CR in a whole head is left to the parser. Line ends are judged as they come, so that a verdict never depends on how the
/// bytes were split (safety.md R12) and a slow sender cannot make us parse again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes already judged.
    seen: usize,
    /// Whether a line with something in it has ended.
    past_start_line: bool,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The head is not whole yet.
    Partial,
    /// The head is `bytes[start..end]`, blank line included. `start` is 2 behind one leading CRLF (RFC 9112 §2.2), else 0.
    Head {
        /// First byte of the start line.
        start: usize,
        /// One past the blank line.
        end: usize,
    },
}

impl HeadScan {
    /// Look at `bytes`, which begin where they began on the last call and may have grown.
    ///
    /// # Errors
    /// `BadHead` for an LF that is alone, a CR that is alone in a head that is not whole, and for more than one empty line before the start line.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Scanned, Kind> {
        let unseen = bytes.get(self.seen..).unwrap_or_default();
        let mut ends = Ends::behind(bytes.get(..self.seen).unwrap_or_default());
        let (blocks, rest) = unseen.as_chunks();
        let mut end = None;
        for block in blocks {
            end = ends.judge(block)?;
            if end.is_some() {
                break;
            }
        }
        if end.is_none() && !rest.is_empty() {
            let mut block = [0; BLOCK];
            block.get_mut(..rest.len()).unwrap_or_default().copy_from_slice(rest);
            end = ends.judge(&block)?;
        }
        if let Some(end) = end {
            let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
            return Ok(Scanned::Head { start, end });
        }
        let last = bytes.get(self.seen.saturating_sub(1)..).unwrap_or_default();
        (self.seen, self.past_start_line) = (bytes.len(), self.past_start_line || ends.past_start_line);
        // In a whole head the parser finds it, with the same verdict; what is not whole might never become so.
        if has_lone_cr(last) { Err(Kind::BadHead) } else { Ok(Scanned::Partial) }
    }

    /// Whether the start line is whole.
    pub fn past_start_line(&self) -> bool {
        self.past_start_line
    }
}

/// Line ends, block by block. In sets of places the lowest bit is the first byte of a block.
struct Ends {
    /// Bytes before the block.
    at: usize,
    /// Whether the byte before it is a CR.
    cr: u64,
    /// Which of the two bytes before it are LF, the earlier one first.
    lf: u64,
    past_start_line: bool,
}

impl Ends {
    fn behind(seen: &[u8]) -> Ends {
        let back = |count: usize| seen.len().checked_sub(count).and_then(|at| seen.get(at)).copied();
        let lf = |count| u64::from(back(count) == Some(b'\n'));
        let cr = u64::from(back(1) == Some(b'\r'));
        Ends { at: seen.len(), cr, lf: lf(2) | lf(1) << 1, past_start_line: false }
    }

    /// Judge the next block; where the head ends, if it does there.
    #[inline(always)]
    fn judge(&mut self, block: &[u8; BLOCK]) -> Result<Option<usize>, Kind> {
        let block = i8x32::new(block.map(u8::cast_signed));
        let places = |of: u8| u64::from(block.simd_eq(i8x32::splat(of.cast_signed())).to_bitmask());
        let (cr, lf) = (places(b'\r'), places(b'\n'));
        let alone = lf & !(cr << 1 | self.cr);
        // An LF two bytes behind another ends a line without anything in it.
        let blank = lf & (lf << 2 | self.lf);
        if alone | blank != 0 {
            let first = (alone | blank).trailing_zeros();
            let place = self.at + first as usize;
            // Two empty lines come before no start line.
            let bad = alone >> first & 1 != 0 || place == 3;
            return if bad { Err(Kind::BadHead) } else { Ok(Some(place + 1)) };
        }
        // The line that ends at the second byte of all has nothing in it.
        self.past_start_line |= lf << self.at.min(2) >> 2 != 0;
        (self.at, self.cr, self.lf) = (self.at + BLOCK, cr >> (BLOCK - 1), lf >> (BLOCK - 2));
        Ok(None)
    }
}

/// Whether there is a CR without its LF. The last byte may yet get one.
pub(super) fn has_lone_cr(bytes: &[u8]) -> bool {
    memchr_iter(b'\r', bytes).any(|at| bytes.get(at + 1).is_some_and(|&next| next != b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Scan, then what a parser says of a lone CR.
    fn judge(scan: &mut HeadScan, bytes: &[u8]) -> Result<Scanned, Kind> {
        match scan.advance(bytes)? {
            Scanned::Head { start, end } if has_lone_cr(&bytes[start..end]) => Err(Kind::BadHead),
            scanned => Ok(scanned),
        }
    }

    fn whole(bytes: &[u8]) -> Result<Scanned, Kind> {
        judge(&mut HeadScan::default(), bytes)
    }

    #[test]
    fn heads_end_at_the_blank_line() {
        assert_eq!(whole(b"GET / HTTP/1.1\r\na: b\r\n\r\nrest"), Ok(Scanned::Head { start: 0, end: 24 }));
        assert_eq!(whole(b"\r\nGET / HTTP/1.1\r\n\r\n"), Ok(Scanned::Head { start: 2, end: 20 }));
        assert_eq!(whole(b"GET / HTTP/1.1\r\na: b\r\n\r"), Ok(Scanned::Partial));
        for wrong in [&b"\r\n\r\nGET"[..], b"GET /\n", b"GET /\r\r\n", b"a\rb", b"\n"] {
            assert_eq!(whole(wrong), Err(Kind::BadHead), "{wrong:?}");
        }
    }

    /// The same, line by line.
    fn plainly(bytes: &[u8]) -> Result<Scanned, Kind> {
        let (mut line, mut lines) = (0, 0);
        for at in (0..bytes.len()).filter(|&at| bytes[at] == b'\n') {
            if at == line || bytes[at - 1] != b'\r' {
                return Err(Kind::BadHead);
            }
            let empty = at - 1 == line;
            line = at + 1;
            match (empty, lines) {
                (false, _) => lines += 1,
                (true, 0) if line > 2 => return Err(Kind::BadHead),
                (true, 0) => {}
                (true, _) => {
                    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
                    return Ok(Scanned::Head { start, end: line });
                }
            }
        }
        Ok(Scanned::Partial)
    }

    proptest! {
        #[test]
        fn blocks_are_judged_as_lines_are(text in prop::collection::vec(prop_oneof![Just("\r\n"), Just("\n"), Just("a"), Just("bc: d"), Just("\r")], 0..90)) {
            let text: String = text.concat();
            let wanted = match plainly(text.as_bytes()) {
                Ok(Scanned::Partial) if has_lone_cr(text.as_bytes()) => Err(Kind::BadHead),
                Ok(Scanned::Head { start, end }) if has_lone_cr(&text.as_bytes()[start..end]) => Err(Kind::BadHead),
                wanted => wanted,
            };
            prop_assert_eq!(whole(text.as_bytes()), wanted);
        }

        #[test]
        fn long_lines_are_judged_alike(lines in prop::collection::vec(0usize..70, 0..12), wrong in any::<Option<prop::sample::Index>>()) {
            let mut text: Vec<u8> = lines.iter().flat_map(|&length| [&vec![b'x'; length][..], b"\r\n"].concat()).collect();
            if let Some(at) = wrong.filter(|_| !text.is_empty()) {
                let at = at.index(text.len());
                text[at] = b'\n';
            }
            let wanted = match plainly(&text) {
                Ok(Scanned::Partial) if has_lone_cr(&text) => Err(Kind::BadHead),
                Ok(Scanned::Head { start, end }) if has_lone_cr(&text[start..end]) => Err(Kind::BadHead),
                wanted => wanted,
            };
            prop_assert_eq!(whole(&text), wanted);
            let mut scan = HeadScan::default();
            let mut verdict = Ok(Scanned::Partial);
            for end in 0..=text.len() {
                verdict = judge(&mut scan, &text[..end]);
                if verdict != Ok(Scanned::Partial) {
                    break;
                }
            }
            prop_assert_eq!(verdict, wanted);
            if verdict == Ok(Scanned::Partial) {
                prop_assert_eq!(scan.past_start_line(), lines.iter().any(|&length| length > 0));
            }
        }

        #[test]
        fn every_split_gives_the_same_verdict(text in "[a\r\n]{0,40}|(\r\n)?GET /( x\r\n|y\r\n){0,4}\r\n.{0,4}", cut in 0usize..60) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut scan = HeadScan::default();
            let mut verdict = judge(&mut scan, &bytes[..cut]);
            if verdict == Ok(Scanned::Partial) {
                verdict = judge(&mut scan, bytes);
            }
            prop_assert_eq!(verdict, whole(bytes));
            let mut scan = HeadScan::default();
            let mut verdict = Ok(Scanned::Partial);
            for end in 0..=bytes.len() {
                verdict = judge(&mut scan, &bytes[..end]);
                if verdict != Ok(Scanned::Partial) {
                    break;
                }
            }
            prop_assert_eq!(verdict, whole(bytes));
        }
    }
}
