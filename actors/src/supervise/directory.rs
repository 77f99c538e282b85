//! Where running children are found without asking their parent.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{PoisonError, RwLock};

use super::supervisor::ChildSpec;
use crate::mailbox::Mailbox;

type Shard<S> = RwLock<HashMap<<S as ChildSpec>::Key, Mailbox<<S as ChildSpec>::Child>>>;

/// A place among `count`, always the same for the same key.
pub(super) fn place(hasher: &RandomState, key: &impl Hash, count: usize) -> usize {
    usize::try_from(hasher.hash_one(key) % (count.max(1) as u64)).unwrap_or(0)
}

/// Where running children are found without asking their parent.
pub(super) struct Directory<S: ChildSpec> {
    hasher: RandomState,
    shards: Vec<Shard<S>>,
}

impl<S: ChildSpec> Directory<S> {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..16).map(|_| RwLock::default()).collect(),
        }
    }

    fn shard(&self, key: &S::Key) -> &Shard<S> {
        &self.shards[place(&self.hasher, key, self.shards.len())]
    }

    pub(super) fn get(&self, key: &S::Key) -> Option<Mailbox<S::Child>> {
        self.shard(key)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    pub(super) fn insert(&self, key: S::Key, mailbox: Mailbox<S::Child>) {
        self.shard(&key)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, mailbox);
    }

    pub(super) fn remove(&self, key: &S::Key) {
        self.shard(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    pub(super) fn matching(&self, is_wanted: impl Fn(&S::Key) -> bool) -> Vec<Mailbox<S::Child>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            found.extend(
                shard
                    .iter()
                    .filter(|(key, _)| is_wanted(key))
                    .map(|(_, mailbox)| mailbox.clone()),
            );
        }
        found
    }

    pub(super) fn count(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }
}
