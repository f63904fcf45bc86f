//! Windows (RFC 9113 §5.2): what may be sent before the receiver says that it took it.

/// The client is told of so many bytes at least: less is not worth a frame, and it has much more besides.
const LEAST: i64 = 4096;
/// The largest window that there is.
pub(super) const LARGEST: i64 = (1 << 31) - 1;

/// What the client may send us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inward {
    /// Bytes that it may send now.
    left: i64,
    /// Bytes that were used up and that it was not told of.
    due: i64,
}

impl Inward {
    pub(super) fn new(size: u32) -> Inward {
        Inward { left: i64::from(size), due: 0 }
    }

    /// It sent so much; false if that is more than it may.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        self.left -= bytes as i64;
        self.left >= 0
    }

    /// So much was used up; by how much its window grows, if it is time to say so: with half of what it has left, so that it is said
    /// seldom while there is plenty, and soon where it waits.
    pub(super) fn give_back(&mut self, bytes: usize) -> Option<u32> {
        self.due += bytes as i64;
        if self.due < (self.left / 2).max(LEAST) {
            return None;
        }
        self.left += self.due;
        u32::try_from(std::mem::take(&mut self.due)).ok()
    }
}

/// What we may send the client. It may be less than nothing: a client can take back what it said of all streams (RFC 9113 §6.9.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Outward(i64);

impl Outward {
    pub(super) fn new(size: u32) -> Outward {
        Outward(i64::from(size))
    }

    pub(super) fn left(self) -> usize {
        usize::try_from(self.0).unwrap_or_default()
    }

    /// We sent so much.
    pub(super) fn take(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// It is larger, or smaller, by so much; false if it cannot be so large.
    pub(super) fn change(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= LARGEST
    }
}
