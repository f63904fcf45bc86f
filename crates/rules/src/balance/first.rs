//! The first endpoint that may take requests.

/// In the order written: the others are spare.
pub(super) fn pick(open: &impl Fn(usize) -> bool, endpoints: usize) -> Option<usize> {
    (0..endpoints).find(|endpoint| open(*endpoint))
}
