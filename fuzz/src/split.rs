//! Ways to cut an input into the pieces that a socket may deliver (safety.md R12).

/// Single cuts that are tried of one input.
const CUTS: usize = 24;

/// The input byte by byte, and cut once at places spread over it.
pub(crate) fn ways(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let step = bytes.len() / CUTS + 1;
    let once = (1..bytes.len()).step_by(step).map(|at| {
        let (front, back) = bytes.split_at(at);
        vec![front, back]
    });
    std::iter::once(bytes.chunks(1).collect()).chain(once)
}
