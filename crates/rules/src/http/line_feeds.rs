//! Line feeds in bytes. Lines of a head are short: sixteen bytes are looked at with one comparison, and what it finds is kept, where a
//! search that begins anew behind each line costs more than the line.

use wide::i8x16;

const BLOCK: usize = 16;

/// Their places, first to last.
#[inline]
pub(super) fn line_feeds(bytes: &[u8]) -> LineFeeds<'_> {
    LineFeeds { bytes, looked: 0, block: 0, found: 0 }
}

pub(super) struct LineFeeds<'b> {
    bytes: &'b [u8],
    /// Bytes that were looked at.
    looked: usize,
    /// Where the block begins in which something was found, and what: a bit for each byte.
    block: usize,
    found: u32,
}

impl Iterator for LineFeeds<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            self.look()?;
        }
        let at = self.block + self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(at)
    }
}

impl LineFeeds<'_> {
    /// Look at the next block; `None`: there is none.
    #[inline(always)]
    fn look(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.looked..).unwrap_or_default();
        if let Some(block) = rest.first_chunk() {
            (self.found, self.block) = (found_in(block), self.looked);
            self.looked += BLOCK;
            return Some(());
        }
        if rest.is_empty() {
            return None;
        }
        if let Some(block) = self.bytes.last_chunk() {
            // It overlaps with the one before, whose part was looked at.
            let again = BLOCK - rest.len();
            (self.found, self.block) = (found_in(block) >> again << again, self.bytes.len() - BLOCK);
        } else {
            let mut block = [0; BLOCK];
            block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            (self.found, self.block) = (found_in(&block), 0);
        }
        self.looked = self.bytes.len();
        Some(())
    }
}

#[inline(always)]
fn found_in(block: &[u8; BLOCK]) -> u32 {
    i8x16::new(block.map(u8::cast_signed)).simd_eq(i8x16::splat(b'\n'.cast_signed())).to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_where_they_are(text in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..80)) {
            let found: Vec<usize> = line_feeds(&text).collect();
            let there: Vec<usize> = (0..text.len()).filter(|&at| text[at] == b'\n').collect();
            prop_assert_eq!(found, there);
        }
    }
}
