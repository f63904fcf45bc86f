//! A key: a text made of values of the request, for hashing.

use super::View;
use super::value::{Text, Value};
use crate::fault::Fault;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A compiled [`penstock_plan::Key`].
#[derive(Clone, Debug)]
pub struct Key(Box<[Text]>);

impl Key {
    /// Compile `key`, which stands at `path` in the plan.
    ///
    /// # Errors
    /// All faults: parts that are no texts, and a key of no parts.
    pub fn compile(key: &penstock_plan::Key, path: &str) -> Result<Key, Vec<Fault>> {
        let (mut parts, mut faults) = (Vec::with_capacity(key.0.len()), Vec::new());
        for operand in &key.0 {
            match Value::compile(operand) {
                Ok(Value::Text(text)) => parts.push(text),
                Ok(Value::Number(_)) => faults.push(Fault::new(path, "needs a text, not a number")),
                Err(reason) => faults.push(Fault::new(path, reason)),
            }
        }
        if key.0.is_empty() {
            faults.push(Fault::new(path, "has no parts"));
        }
        if faults.is_empty() { Ok(Key(parts.into())) } else { Err(faults) }
    }

    /// XXH3 (64 bits, seed 0) of the key's bytes; `None` if the request lacks any part of it.
    #[inline]
    pub fn hash(&self, view: &View<'_>) -> Option<u64> {
        if let [part] = &*self.0 {
            return part.read(view, xxh3_64);
        }
        let mut hash = Xxh3::new();
        for part in &self.0 {
            part.read(view, |text| hash.update(text))?;
        }
        Some(hash.digest())
    }

    /// What [`Self::hash`] gives where the parts make up this text.
    pub fn hash_of(text: &str) -> u64 {
        xxh3_64(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestHead;
    use penstock_plan::{Field, Operand};

    fn hash(parts: Vec<Operand>, client: &str) -> Option<u64> {
        let fields = [("X-Tenant".to_owned(), "Blue".to_owned())];
        let head = RequestHead::compose("GET", "/a?q=1", "shop.example", &fields).unwrap();
        let client = client.parse().ok();
        let view = View { client, ..View::of(&head) };
        Key::compile(&penstock_plan::Key(parts), "x").unwrap().hash(&view)
    }

    #[test]
    fn parts_are_hashed_as_one_text() {
        let header = |name: &str| Operand::Field(Field::Header(name.into()));
        let text = |text: &str| Operand::Text(text.into());
        assert_eq!(hash(vec![Operand::Path], ""), Some(xxh3_64(b"/a")));
        let lower = Operand::Lower(Box::new(header("x-tenant")));
        assert_eq!(hash(vec![lower, text("|"), Operand::Path], ""), Some(xxh3_64(b"blue|/a")));
        assert_eq!(hash(vec![header("x-tenant"), text("|"), Operand::Path], ""), Some(Key::hash_of("Blue|/a")));
        assert_eq!(hash(vec![Operand::ClientIp], "::ffff:10.0.0.1"), Some(xxh3_64(b"10.0.0.1")));
        let longest = "2001:db8:1111:2222:3333:4444:5555:6666";
        assert_eq!(hash(vec![Operand::ClientIp], longest), Some(xxh3_64(longest.as_bytes())));
        assert_eq!(hash(vec![Operand::Path, header("x-other")], ""), None);
        assert_eq!(hash(vec![Operand::ClientIp], ""), None);
    }

    #[test]
    fn numbers_and_nothing_are_no_keys() {
        for parts in [vec![Operand::Port], vec![]] {
            assert_eq!(Key::compile(&penstock_plan::Key(parts), "x").unwrap_err().len(), 1);
        }
    }
}
