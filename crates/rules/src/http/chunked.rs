//! The chunked coding (RFC 9112 §7.1), read strictly and written canonically. Extensions are dropped.

use super::{Fields, Known, request::trim};
use crate::error::Kind;

/// Bytes of a chunk-size line, extension included.
const LINE_LIMIT: u32 = 256;
/// Bytes of a trailer section.
const TRAILER_LIMIT: usize = 8 * 1024;
/// Fields of a trailer section.
const TRAILER_FIELDS: usize = 32;
/// Framing may cost this many times the data it frames, beyond a free start: more is a way to make us work for nothing.
const OVERHEAD_RATIO: u64 = 16;
const OVERHEAD_FREE: u64 = 16 * 1024;

/// Reads a chunked body as its bytes come in.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Bytes of the current line.
    line: u32,
    data: u64,
    overhead: u64,
    /// The trailer section, raw; empty for nearly all bodies.
    trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size(u64),
    /// Behind the semicolon: an extension needs a name.
    ExtensionStart(u64),
    Extension(u64),
    /// In a quoted string, where a CR ends nothing for some readers: refused at once.
    Quoted(u64),
    QuotedEscape(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the begin of a trailer line.
    TrailerStart,
    TrailerLine,
    TrailerLineLf,
    EndLf,
    Done,
}

/// What stands at the begin of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of framing to skip.
    pub skip: usize,
    /// Bytes of data behind them.
    pub data: usize,
    /// The body ends behind both.
    pub done: bool,
}

impl Decoder {
    /// Take framing off the begin of `input` up to the next data. With neither data nor the end, all input was framing.
    ///
    /// # Errors
    /// `BadChunk`, or `HeadTooLarge` for a trailer section beyond its limit.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Kind> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if let State::Data(left) = self.state {
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                let left = left - data as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                self.data += data as u64;
                return Ok(Step { skip: at, data, done: false });
            }
            self.state = self.next(byte)?;
            self.overhead += 1;
            at += 1;
            if self.overhead > OVERHEAD_FREE + self.data.saturating_mul(OVERHEAD_RATIO) {
                return Err(Kind::BadChunk);
            }
            if self.state == State::Done {
                return Ok(Step { skip: at, data: 0, done: true });
            }
        }
        Ok(Step { skip: at, data: 0, done: false })
    }

    /// The trailer fields that may be forwarded, once the body has ended (safety.md R1).
    ///
    /// # Errors
    /// `BadChunk` for fields that break RFC 9112 §5.
    pub fn trailers(&self) -> Result<Fields, Kind> {
        let mut fields = Fields::default();
        if self.trailer.is_empty() {
            return Ok(fields);
        }
        let mut headers = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
        match httparse::parse_headers(&self.trailer, &mut headers) {
            Ok(httparse::Status::Complete((length, headers))) if length == self.trailer.len() => {
                for header in headers {
                    if is_allowed(header.name) {
                        fields.push(header.name, trim(header.value));
                    }
                }
                Ok(fields)
            }
            _ => Err(Kind::BadChunk),
        }
    }

    fn next(&mut self, byte: u8) -> Result<State, Kind> {
        use State::{
            Data, DataCr, DataLf, Done, EndLf, Extension, ExtensionStart, Quoted, QuotedEscape, Size, SizeLf, Start,
            TrailerLine, TrailerLineLf, TrailerStart,
        };
        let in_line = !matches!(
            self.state,
            Data(_) | DataCr | DataLf | TrailerStart | TrailerLine | TrailerLineLf | EndLf | Done
        );
        if in_line {
            self.line += 1;
            if self.line > LINE_LIMIT {
                return Err(Kind::BadChunk);
            }
        }
        match (self.state, byte) {
            (Start, _) => digit(0, byte),
            (Size(size), b';') => Ok(ExtensionStart(size)),
            (Size(size), b'\r') => Ok(SizeLf(size)),
            // 16 digits and no more: a longer number wraps in somebody's reader.
            (Size(size), _) if self.line <= 16 => digit(size, byte),
            (ExtensionStart(size), b'!' | b'#'..=b'~') => Ok(Extension(size)),
            (Extension(size), b'\r') => Ok(SizeLf(size)),
            (Extension(size), b'"') => Ok(Quoted(size)),
            (Quoted(size), b'"') => Ok(Extension(size)),
            (Quoted(size), b'\\') => Ok(QuotedEscape(size)),
            (Quoted(size) | QuotedEscape(size), b'\t' | b' '..=b'~' | 0x80..) => Ok(Quoted(size)),
            (Extension(size), b'\t' | b' '..=b'~' | 0x80..) => Ok(Extension(size)),
            (SizeLf(size), b'\n') => {
                self.line = 0;
                Ok(if size == 0 { TrailerStart } else { Data(size) })
            }
            (DataCr, b'\r') => Ok(DataLf),
            (DataLf, b'\n') => Ok(Start),
            (TrailerStart, b'\r') => Ok(EndLf),
            (EndLf, b'\n') => {
                if !self.trailer.is_empty() {
                    self.trailer.extend_from_slice(b"\r\n");
                    self.trailers()?;
                }
                Ok(Done)
            }
            (TrailerStart | TrailerLine, b'\n') => Err(Kind::BadChunk),
            (TrailerStart | TrailerLine, _) => {
                if self.trailer.len() >= TRAILER_LIMIT {
                    return Err(Kind::HeadTooLarge);
                }
                self.trailer.push(byte);
                Ok(if byte == b'\r' { TrailerLineLf } else { TrailerLine })
            }
            (TrailerLineLf, b'\n') => {
                self.trailer.push(byte);
                Ok(TrailerStart)
            }
            _ => Err(Kind::BadChunk),
        }
    }
}

fn digit(size: u64, byte: u8) -> Result<State, Kind> {
    let digit = char::from(byte).to_digit(16).ok_or(Kind::BadChunk)?;
    // Checked below 2^60, so that no sum of lengths can wrap.
    if size >= 1 << 56 { Err(Kind::BadChunk) } else { Ok(State::Size(size << 4 | u64::from(digit))) }
}

/// Whether a trailer field may pass: none that frames, routes, authenticates or identifies (RFC 9110 §6.5.1).
pub fn is_allowed(name: &str) -> bool {
    const REFUSED: &[&str] = &[
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "expires",
        "location",
        "max-forwards",
        "proxy-authentication-info",
        "range",
        "retry-after",
        "set-cookie",
        "vary",
        "warning",
        "www-authenticate",
    ];
    Known::of(name.as_bytes()) == Known::Other && !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
}

/// Append the line that opens a chunk of `length` bytes, which is more than 0.
pub fn write_size(length: usize, to: &mut Vec<u8>) {
    let mut digits = [0u8; 18];
    let mut at = 16;
    let mut rest = length;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = HEX[rest & 15];
        }
        rest >>= 4;
        if rest == 0 || at == 0 {
            break;
        }
    }
    digits[16] = b'\r';
    digits[17] = b'\n';
    to.extend_from_slice(digits.get(at..).unwrap_or_default());
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Append the last chunk with these trailer fields.
pub fn write_end(trailers: Option<&Fields>, to: &mut Vec<u8>) {
    to.extend_from_slice(b"0\r\n");
    for field in trailers.iter().flat_map(|fields| fields.iter()) {
        to.extend_from_slice(field.name);
        to.extend_from_slice(b": ");
        to.extend_from_slice(field.value);
        to.extend_from_slice(b"\r\n");
    }
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Data, trailers and what was left behind the body.
    type Read = (Vec<u8>, Vec<(String, String)>, usize);

    fn read(pieces: &[&[u8]]) -> Result<Option<Read>, Kind> {
        let (mut decoder, mut data) = (Decoder::default(), Vec::new());
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut used = 0;
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let step = decoder.step(rest)?;
                data.extend_from_slice(&rest[step.skip..step.skip + step.data]);
                rest = &rest[step.skip + step.data..];
                used += step.skip + step.data;
                if step.done {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let fields = decoder.trailers()?;
                    let fields = fields.iter().map(|field| (text(field.name), text(field.value))).collect();
                    return Ok(Some((data, fields, total - used)));
                }
            }
        }
        Ok(None)
    }

    fn body(bytes: &[u8]) -> Result<Option<Read>, Kind> {
        read(&[bytes])
    }

    #[test]
    fn chunks_are_joined() {
        for (bytes, data, left) in [
            (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..], 0),
            (b"0005\r\nhello\r\n000\r\n\r\nGET", b"hello", 3),
            (b"5;a=b\r\nhello\r\n1;x=\"y\"\r\n!\r\n0;z\r\n\r\n", b"hello!", 0),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", 0),
        ] {
            assert_eq!(body(bytes), Ok(Some((data.to_vec(), vec![], left))), "{bytes:?}");
        }
        assert_eq!(body(b"5\r\nhel"), Ok(None));
    }

    #[test]
    fn what_two_readers_read_differently_is_refused() {
        for bytes in [
            &b"0x5\r\nhello\r\n0\r\n\r\n"[..],
            b"+5\r\n",
            b"-5\r\n",
            b"5_0\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"\r\n",
            b"g\r\n",
            b"FFFFFFFFFFFFFFFF1\r\n",
            b"8000000000000000\r\n",
            b"00000000000000005\r\nhello\r\n",
            b"5;\r\nhello\r\n",
            b"5;x\nhello",
            b"5\nhello",
            b"5;x\ry\r\nhello",
            b"2\r\r;a\r\n",
            b"5;\0x\r\nhello",
            b"5; x\r\n",
            b"1;e=\"v\r\nX\r\n0\r\n\r\nX",
            b"5\r\nhello!!\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5\r\nhello\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\r\n folded\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nnocolon\r\n\r\n",
            b"0\r\nA\rb: c\r\n\r\n",
        ] {
            assert_eq!(body(bytes), Err(Kind::BadChunk), "{:?}", String::from_utf8_lossy(bytes));
        }
        let line = [b"5;".to_vec(), vec![b'x'; 64 * 1024]].concat();
        assert_eq!(body(&line), Err(Kind::BadChunk));
        let trailer = [b"0\r\nA: ".to_vec(), vec![b'x'; 1 << 20]].concat();
        assert_eq!(body(&trailer), Err(Kind::HeadTooLarge));
        let many = [b"1;".to_vec(), vec![b'x'; 200], b"\r\nd\r\n".to_vec()].concat().repeat(10_000);
        assert_eq!(body(&many), Err(Kind::BadChunk));
    }

    #[test]
    fn trailers_that_frame_route_or_identify_are_dropped() {
        let bytes =
            b"0\r\nContent-Length: 9\r\nHost: b\r\nAuthorization: z\r\nX-Forwarded-For: 1.1.1.1\r\nX-Sum:  1 \r\n\r\n";
        assert_eq!(body(bytes), Ok(Some((vec![], vec![("X-Sum".into(), "1".into())], 0))));
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for length in [1usize, 15, 16, 255, 4096, usize::MAX] {
            let mut line = Vec::new();
            write_size(length, &mut line);
            assert_eq!(String::from_utf8(line).unwrap(), format!("{length:x}\r\n"));
        }
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_verdict(
            text in "([0-3a;x]{1,3}\r\n[a-c]{0,3}\r\n){0,4}(0\r\n(A: b\r\n){0,2}\r\n)?.{0,3}",
            cuts in prop::collection::vec(0usize..80, 0..4),
        ) {
            let bytes = text.as_bytes();
            let whole = body(bytes);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&single), whole.clone());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(read(&pieces), whole);
        }
    }
}
