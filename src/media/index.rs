//! Which parts are on disk, and which of them was not used for longest.

use std::collections::{BTreeMap, HashMap};

/// The index. Its clock counts uses.
pub(super) struct Index {
    max_bytes: u64,
    max_parts: usize,
    bytes: u64,
    clock: u64,
    /// Name -> size and last use.
    parts: HashMap<String, (u64, u64)>,
    /// Last use -> name.
    uses: BTreeMap<u64, String>,
}

impl Index {
    pub(super) fn new(max_bytes: u64, max_parts: usize) -> Self {
        Self {
            max_bytes,
            max_parts,
            bytes: 0,
            clock: 0,
            parts: HashMap::new(),
            uses: BTreeMap::new(),
        }
    }

    /// Notes a use; false when the part is not here.
    pub(super) fn touch(&mut self, name: &str) -> bool {
        let Some((_, used)) = self.parts.get_mut(name) else {
            return false;
        };
        self.clock += 1;
        if let Some(name) = self.uses.remove(used) {
            *used = self.clock;
            self.uses.insert(self.clock, name);
        }
        true
    }

    /// Adds a part, or another size of it; the names of those that have to go for it.
    pub(super) fn add(&mut self, name: String, size: u64) -> Vec<String> {
        self.remove(&name);
        self.clock += 1;
        self.bytes += size;
        self.uses.insert(self.clock, name.clone());
        self.parts.insert(name, (size, self.clock));
        let mut surplus = Vec::new();
        while (self.bytes > self.max_bytes || self.parts.len() > self.max_parts)
            && let Some((_, oldest)) = self.uses.first_key_value()
        {
            let oldest = oldest.clone();
            self.remove(&oldest);
            surplus.push(oldest);
        }
        surplus
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some((size, used)) = self.parts.remove(name) {
            self.bytes -= size;
            self.uses.remove(&used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_are_kept() {
        let mut index = Index::new(10, 3);
        for name in ["a", "b", "c"] {
            assert!(index.add(name.to_owned(), 1).is_empty());
        }
        assert!(index.touch("a"));
        assert_eq!(index.add("d".to_owned(), 1), ["b"]);
        assert_eq!(index.add("e".to_owned(), 9), ["c", "a"]);
        assert_eq!(index.add("e".to_owned(), 1), [""; 0]);
        assert_eq!(index.bytes, 2);
        assert!(!index.touch("a"));
        assert_eq!(index.add("f".to_owned(), 11), ["d", "e", "f"]);
        assert_eq!((index.bytes, index.parts.len(), index.uses.len()), (0, 0, 0));
    }
}
