//! The Huffman code of strings (RFC 7541 §5.2, Appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and longer ones begin where shorter ones
//! end. So lengths are all that is written down; codes and what reads them come from these.

use super::Broken;

/// Symbols: each byte, and the end of a string.
const SYMBOLS: usize = 257;
/// The symbol that no string may have (RFC 7541 §5.2).
const END: u16 = 256;
/// Bits of the longest code.
const LONGEST: u32 = 30;
/// Bits that are looked up at once. All that is usual in a field is no longer.
const SHORT: u32 = 10;

/// Bits of each symbol's code.
#[rustfmt::skip]
static LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6,
    6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8,
    13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15,
    11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23,
    23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26,
    26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21,
    22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27,
    27, 26, 30,
];

/// Bytes that `text` has in the code.
pub(super) fn length(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Append `text` in the code.
pub(super) fn encode(text: &[u8], to: &mut Vec<u8>) {
    // The last `have` bits, of which there are less than 32 before each code.
    let (mut bits, mut have) = (0u64, 0u32);
    for &byte in text {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << length | u64::from(CODES[usize::from(byte)]);
        have += length;
        if have >= 32 {
            have -= 32;
            to.extend_from_slice(&((bits >> have) as u32).to_be_bytes());
        }
    }
    // Filled up with the begin of the end's code: ones.
    let filled = (bits << 32 | 0xffff_ffff) >> have;
    let rest = (filled as u32).to_be_bytes();
    to.extend_from_slice(rest.get(..have.div_ceil(8) as usize).unwrap_or_default());
}

/// Bytes that so many bytes of the code become at most, if none of them is an end: no symbol has less than 5 bits.
pub(super) fn room(coded: usize) -> usize {
    coded / 5 * 8 + 8
}

/// Write what `coded` says to the begin of `to`, and tell how many bytes it is. `to` has the [`room`].
///
/// # Errors
/// [`Broken`]: the end is in the string, or it ends with anything but less than 8 ones (RFC 7541 §5.2).
pub(super) fn decode(coded: &[u8], to: &mut [u8]) -> Result<usize, Broken> {
    let room = to.len();
    let mut to = to.iter_mut();
    // The next `have` bits are the first of `bits`. Behind them may be some that are read once more: they are the same.
    let (mut bits, mut have, mut rest) = (0u64, 0u32, coded);
    while let Some(word) = rest.first_chunk::<8>() {
        bits |= u64::from_be_bytes(*word) >> have;
        let whole = (63 - have) / 8;
        rest = rest.get(whole as usize..).unwrap_or_default();
        have += whole * 8;
        while have >= LONGEST {
            let (byte, length) = first(bits)?;
            *to.next().ok_or(Broken)? = byte;
            bits <<= length;
            have -= length;
        }
    }
    loop {
        while have <= 56
            && let Some((&byte, behind)) = rest.split_first()
        {
            bits |= u64::from(byte) << (56 - have);
            (have, rest) = (have + 8, behind);
        }
        let (byte, length) = first(bits)?;
        if length > have {
            break;
        }
        *to.next().ok_or(Broken)? = byte;
        bits <<= length;
        have -= length;
    }
    if have < 8 && bits.leading_ones() >= have { Ok(room - to.len()) } else { Err(Broken) }
}

/// The symbol whose code `bits` begins with, and the bits of that.
#[inline]
fn first(bits: u64) -> Result<(u8, u32), Broken> {
    let found = FIRST[(bits >> (64 - SHORT)) as usize];
    if found != 0 { Ok(((found >> 8) as u8, u32::from(found & 0xff))) } else { first_long(bits) }
}

/// The same for a code that is too long to be looked up.
#[cold]
fn first_long(bits: u64) -> Result<(u8, u32), Broken> {
    let bits = bits >> 32;
    for run in RUNS.iter().skip(SHORT as usize + 1) {
        if bits < run.end {
            let at = (bits - run.begin) >> (32 - run.length);
            let symbol = SORTED.get(usize::from(run.at) + at as usize).copied().unwrap_or(END);
            return if symbol == END { Err(Broken) } else { Ok((symbol as u8, run.length)) };
        }
    }
    Err(Broken)
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Run {
    length: u32,
    /// The first 32 bits of a string that begins with the first of them, and of one that begins behind the last of them.
    begin: u64,
    end: u64,
    /// Where their symbols begin in [`SORTED`].
    at: u16,
}

/// Symbols in the order of their codes.
static SORTED: [u16; SYMBOLS] = {
    let (mut sorted, mut at) = ([0; SYMBOLS], 0);
    let mut length = 0;
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as u32 == length {
                sorted[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    sorted
};

/// By length.
static RUNS: [Run; LONGEST as usize + 1] = {
    let mut runs = [Run { length: 0, begin: 0, end: 0, at: 0 }; LONGEST as usize + 1];
    let (mut length, mut begin, mut at) = (1, 0, 0);
    while length <= LONGEST {
        let from = at;
        let mut end = begin;
        while at < SYMBOLS && LENGTHS[SORTED[at] as usize] as u32 == length {
            end += 1 << (32 - length);
            at += 1;
        }
        runs[length as usize] = Run { length, begin, end, at: from as u16 };
        begin = end;
        length += 1;
    }
    runs
};

/// The code of each byte, in the last bits.
static CODES: [u32; 256] = {
    let mut codes = [0; 256];
    let mut at = 0;
    while at < SYMBOLS {
        let symbol = SORTED[at];
        if symbol != END {
            let run = RUNS[LENGTHS[symbol as usize] as usize];
            codes[symbol as usize] = (run.begin >> (32 - run.length)) as u32 + (at - run.at as usize) as u32;
        }
        at += 1;
    }
    codes
};

/// By the first [`SHORT`] bits of a string: the byte whose code these begin with, and its length in the last 8 bits. 0: it is longer.
static FIRST: [u16; 1 << SHORT] = {
    let mut first = [0; 1 << SHORT];
    let mut byte = 0;
    while byte < 256 {
        let length = LENGTHS[byte] as u32;
        if length <= SHORT {
            let begin = (CODES[byte] as usize) << (SHORT - length);
            let mut at = begin;
            while at < begin + (1 << (SHORT - length)) {
                first[at] = (byte as u16) << 8 | length as u16;
                at += 1;
            }
        }
        byte += 1;
    }
    first
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete_and_has_the_codes_of_the_standard() {
        let filled: u64 = LENGTHS.iter().map(|length| 1 << (LONGEST - u32::from(*length))).sum();
        assert_eq!(filled, 1 << LONGEST);
        assert_eq!(RUNS[LONGEST as usize].end, 1 << 32);
        // Some of each part of Appendix B, with their lengths.
        for (symbol, code, length) in [
            (b'0', 0x0, 5),
            (b't', 0x9, 5),
            (b' ', 0x14, 6),
            (b'~', 0x1ffd, 13),
            (b'!', 0x3f8, 10),
            (b'X', 0xfc, 8),
            (b'Z', 0xfd, 8),
            (b'\\', 0x7fff0, 19),
            (0, 0x1ff8, 13),
            (1, 0x7f_ffd8, 23),
            (9, 0xff_ffea, 24),
            (10, 0x3fff_fffc, 30),
            (13, 0x3fff_fffd, 30),
            (22, 0x3fff_fffe, 30),
            (127, 0xfff_fffc, 28),
            (128, 0xf_ffe6, 20),
            (199, 0x1ff_ffec, 25),
            (249, 0xfff_fffe, 28),
            (255, 0x3ff_ffee, 26),
        ] {
            let at = usize::from(symbol);
            assert_eq!((CODES[at], LENGTHS[at]), (code, length), "{symbol}");
        }
        assert_eq!(SORTED[SYMBOLS - 1], END);
    }

    #[test]
    fn every_byte_has_the_code_that_others_give_it() {
        let every: Vec<u8> = (0..=255).collect();
        let mut coded = Vec::new();
        encode(&every, &mut coded);
        // Of what a library in another language makes of the same bytes.
        let sum = coded.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        assert_eq!((coded.len(), sum), (583, 0xd5aa_0554_d9a1_3af2));
    }
}
