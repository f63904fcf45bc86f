//! Finding the end of a head as its bytes come in, without reading a byte twice.

use super::line_feeds::line_feeds;
use crate::error::Kind;
use memchr::memchr_iter;

/// Looks for the blank line that ends a head; a lone CR in a whole head is left to the parser. Line ends are judged as they come, so that a verdict never depends on how the
/// bytes were split (safety.md R12) and a slow sender cannot make us parse again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes already judged.
    seen: usize,
    /// Where the current line began.
    line: usize,
    /// Lines that ended so far.
    lines: u32,
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
        for offset in line_feeds(bytes.get(self.seen..).unwrap_or_default()) {
            let at = self.seen + offset;
            if at == self.line || bytes.get(at - 1) != Some(&b'\r') {
                return Err(Kind::BadHead);
            }
            let (empty, next) = (at - 1 == self.line, at + 1);
            self.line = next;
            if !empty {
                self.lines += 1;
            } else if self.lines > 0 {
                let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
                return Ok(Scanned::Head { start, end: next });
            } else if self.line > 2 {
                return Err(Kind::BadHead);
            }
        }
        let unseen = bytes.get(self.seen.saturating_sub(1)..).unwrap_or_default();
        self.seen = bytes.len();
        // In a whole head the parser finds it, with the same verdict; what is not whole might never become so.
        if has_lone_cr(unseen) { Err(Kind::BadHead) } else { Ok(Scanned::Partial) }
    }

    /// Whether the start line is whole.
    pub fn past_start_line(&self) -> bool {
        self.lines > 0
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

    proptest! {
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
