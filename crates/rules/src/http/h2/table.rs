//! The streams of one connection: a place each, found by its number in frames and by its [`Key`] otherwise.

use super::stream::{Key, Stream};
use hashbrown::HashMap;

#[derive(Default)]
pub(super) struct Table {
    places: Vec<Option<Stream>>,
    free: Vec<u32>,
    by_number: HashMap<u32, u32, ahash::RandomState>,
}

impl Table {
    /// Streams that have a place, those included that ended and that somebody still looks at.
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn insert(&mut self, stream: Stream) -> Key {
        let number = stream.number;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(None);
                (self.places.len() - 1) as u32
            }
        };
        if let Some(slot) = self.places.get_mut(place as usize) {
            *slot = Some(stream);
        }
        self.by_number.insert(number, place);
        Key { place, number }
    }

    pub(super) fn find(&self, number: u32) -> Option<Key> {
        self.by_number.get(&number).map(|&place| Key { place, number })
    }

    #[inline]
    pub(super) fn get(&mut self, key: Key) -> Option<&mut Stream> {
        self.places.get_mut(key.place as usize)?.as_mut().filter(|stream| stream.number == key.number)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Stream> {
        self.get(key)?;
        self.by_number.remove(&key.number);
        self.free.push(key.place);
        self.places.get_mut(key.place as usize)?.take()
    }

    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.places.iter_mut().flatten()
    }
}
