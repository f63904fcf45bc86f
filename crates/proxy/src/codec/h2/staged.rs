//! The head of an answer until it goes: it can still be taken back, and only what goes may enter the table that later heads refer to.

use penstock_rules::http::{Known, ResponseHead, passed_on};

/// Bytes before each field: how long its name and its value are.
const LENGTHS: usize = 8;

/// Its fields, one behind the other.
pub(crate) struct Staged {
    pub(super) status: u16,
    memory: Vec<u8>,
    /// Bytes of the head before it is packed.
    size: u64,
}

impl Staged {
    /// `memory`: empty.
    pub(super) fn new(memory: Vec<u8>, status: u16) -> Staged {
        Staged { status, memory, size: 0 }
    }

    /// What came from the endpoint and is for more than one hop, without what tells a length.
    pub(super) fn pass_on(&mut self, head: &ResponseHead) {
        for field in passed_on(head) {
            // It has no meaning here (RFC 8441 §5).
            if field.known != Known::Other || !field.name.eq_ignore_ascii_case(b"sec-websocket-accept") {
                self.add(field.name, field.value);
            }
        }
    }

    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        let [n0, n1, n2, n3] = (name.len() as u32).to_ne_bytes();
        let [v0, v1, v2, v3] = (value.len() as u32).to_ne_bytes();
        self.memory.extend_from_slice(&[n0, n1, n2, n3, v0, v1, v2, v3]);
        self.memory.extend_from_slice(name);
        self.memory.extend_from_slice(value);
        self.size += (name.len() + value.len() + 4) as u64;
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.memory.as_slice();
        std::iter::from_fn(move || {
            let (&[n0, n1, n2, n3, v0, v1, v2, v3], behind) = rest.split_first_chunk::<LENGTHS>()?;
            let (name, behind) = behind.split_at_checked(u32::from_ne_bytes([n0, n1, n2, n3]) as usize)?;
            let (value, behind) = behind.split_at_checked(u32::from_ne_bytes([v0, v1, v2, v3]) as usize)?;
            rest = behind;
            Some((name, value))
        })
    }

    /// To be used again.
    pub(super) fn into_memory(self) -> Vec<u8> {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_comes_out_in_its_order() {
        let mut staged = Staged::new(Vec::new(), 200);
        assert_eq!(staged.fields().count(), 0);
        let fields: [(&[u8], &[u8]); 3] = [(b"server", b"shop"), (b"x-empty", b""), (b"set-cookie", b"a=b; Path=/")];
        fields.iter().for_each(|(name, value)| staged.add(name, value));
        assert!(staged.fields().eq(fields));
        assert_eq!(staged.size(), 10 + 4 + 7 + 4 + 10 + 11 + 4 - 4 + 4);
    }
}
