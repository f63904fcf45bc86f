//! Regular expressions, all of them looked for at once and in linear time.

use super::Origin;
use crate::fault;
use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

/// Regular expressions of one list.
pub(super) const MOST: usize = 4096;
/// Memory that one of them, and all together, may take.
const SIZE: usize = 64 << 10;
const WHOLE: usize = 32 << 20;

/// Regular expressions of a list.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    texts: Vec<String>,
    origins: Vec<Origin>,
    set: Option<RegexSet>,
}

impl Patterns {
    /// Add one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn add(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        if self.texts.len() >= MOST {
            return Err(format!("a list has at most {MOST} regular expressions"));
        }
        RegexBuilder::new(text).size_limit(SIZE).build().map_err(|error| fault::regex_fault(&error))?;
        self.texts.push(text.to_owned());
        self.origins.push(origin);
        Ok(())
    }

    /// Make them ready to be asked.
    ///
    /// # Errors
    /// That they are too large together.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let set = RegexSetBuilder::new(&self.texts).size_limit(WHOLE).build();
        self.set = Some(set.map_err(|error| format!("its regular expressions are {}", fault::regex_fault(&error)))?);
        Ok(())
    }

    #[inline]
    pub(super) fn has(&self, text: &[u8]) -> bool {
        self.set.as_ref().is_some_and(|set| set.is_match(text))
    }

    /// The first that is found in `text`.
    pub(super) fn find(&self, text: &[u8]) -> Option<(String, Origin)> {
        let at = self.set.as_ref()?.matches(text).iter().next()?;
        Some((self.texts.get(at)?.clone(), *self.origins.get(at)?))
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.capacity() + size_of::<(String, Origin)>()).sum()
    }
}
