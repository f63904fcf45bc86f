//! Finding the end of a head as its bytes come in, without reading a byte twice.

use crate::error::Kind;
use memchr::memchr2_iter;

/// Looks for the blank line that ends a head. Line ends are judged as they come, so that a verdict never depends on how the
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
    /// `BadHead` for a CR or LF that is alone, and for more than one empty line before the start line.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Scanned, Kind> {
        let mut skip = self.seen;
        for offset in memchr2_iter(b'\r', b'\n', bytes.get(self.seen..).unwrap_or_default()) {
            let at = self.seen + offset;
            if at < skip {
                continue;
            }
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) => {}
                (Some(b'\r'), None) => {
                    self.seen = at;
                    return Ok(Scanned::Partial);
                }
                _ => return Err(Kind::BadHead),
            }
            let (empty, next) = (at == self.line, at + 2);
            skip = next;
            self.line = next;
            if !empty {
                self.lines += 1;
            } else if self.lines > 0 {
                let start = if bytes.first() == Some(&b'\r') { 2 } else { 0 };
                return Ok(Scanned::Head { start, end: next });
            } else if at > 0 {
                return Err(Kind::BadHead);
            }
        }
        self.seen = bytes.len();
        Ok(Scanned::Partial)
    }

    /// Whether the start line is whole.
    pub fn past_start_line(&self) -> bool {
        self.lines > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Result<Scanned, Kind> {
        HeadScan::default().advance(bytes)
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
            let mut verdict = scan.advance(&bytes[..cut]);
            if verdict == Ok(Scanned::Partial) {
                verdict = scan.advance(bytes);
            }
            prop_assert_eq!(verdict, whole(bytes));
            let mut scan = HeadScan::default();
            let mut verdict = Ok(Scanned::Partial);
            for end in 0..=bytes.len() {
                verdict = scan.advance(&bytes[..end]);
                if verdict != Ok(Scanned::Partial) {
                    break;
                }
            }
            prop_assert_eq!(verdict, whole(bytes));
        }
    }
}
