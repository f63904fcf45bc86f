//! Filters that work on bodies as they pass. What they decide, they decide in `rules::filter`.

pub(crate) mod compress;
