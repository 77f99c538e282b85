//! What lives here: parts of files that platforms keep, sealed on this machine's disk so that they are not fetched again.
//! Who calls it: `http::media`.
//! What it may not know: platforms, accounts, who may see a file.

mod index;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

use crate::vault::{Place, Vault};
use index::Index;

/// Parts begin at multiples of it. Two of Telegram's largest answers.
pub const PART: u64 = 1 << 20;
/// Most bytes kept on disk; the parts that were not used for longest go first.
const MAX_BYTES: u64 = 1 << 30;
/// Most parts kept on disk.
const MAX_PARTS: usize = 50_000;
/// What a file is called while it is being written.
const UNFINISHED: &str = "part";

/// The cache. Losing any of it costs only another download.
#[derive(Clone)]
pub struct MediaCache(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    vault: Vault,
    index: Mutex<Index>,
}

impl MediaCache {
    /// The cache in this folder, which is made when the first part is kept. What an earlier run left there is used.
    pub fn open(folder: PathBuf, vault: Vault) -> Self {
        Self::bounded(folder, vault, MAX_BYTES, MAX_PARTS)
    }

    fn bounded(folder: PathBuf, vault: Vault, max_bytes: u64, max_parts: usize) -> Self {
        let mut index = Index::new(max_bytes, max_parts);
        match left_over(&folder) {
            Ok(parts) => {
                for (name, size) in parts {
                    for surplus in index.add(name, size) {
                        // What cannot be deleted now is found again at the next start.
                        let _ = std::fs::remove_file(folder.join(surplus));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the files kept from earlier cannot be read"),
        }
        Self(Arc::new(Inner {
            folder,
            vault,
            index: Mutex::new(index),
        }))
    }

    /// A part of a file, if it is here.
    pub async fn get(&self, file: &str, part: u64) -> Option<Bytes> {
        let name = name(file, part);
        if !self.index(|index| index.touch(&name)) {
            return None;
        }
        let sealed = tokio::fs::read(self.0.folder.join(&name)).await;
        let opened = sealed
            .ok()
            .and_then(|sealed| self.0.vault.open(place(&name), &sealed).ok());
        if opened.is_none() {
            // Deleted by somebody, damaged, or sealed with a key that has been retired.
            self.index(|index| index.remove(&name));
            self.delete(vec![name]).await;
        }
        opened.map(Bytes::from)
    }

    /// Keeps a part of a file. When that fails it is fetched again next time. Begun, it is finished, also when the caller
    /// goes away: a part on disk that the index does not know would be outside its bounds.
    pub async fn put(&self, file: &str, part: u64, bytes: Bytes) {
        let (cache, name) = (self.clone(), name(file, part));
        let keeping = tokio::spawn(async move {
            match cache.write(&name, &bytes).await {
                Ok(size) => {
                    let surplus = cache.index(|index| index.add(name, size));
                    cache.delete(surplus).await;
                }
                Err(error) => tracing::warn!(%error, "a part of a file is not kept"),
            }
        });
        let _ = keeping.await;
    }

    async fn write(&self, name: &str, bytes: &[u8]) -> io::Result<u64> {
        let sealed = self.0.vault.seal(place(name), bytes).map_err(io::Error::other)?;
        let folder = &self.0.folder;
        tokio::fs::create_dir_all(folder).await?;
        // So that a crash leaves no half of a part under its name, and two writers do not mix.
        let unfinished = folder.join(format!("{}.{UNFINISHED}", Uuid::new_v4()));
        let written = async {
            tokio::fs::write(&unfinished, &sealed).await?;
            tokio::fs::rename(&unfinished, folder.join(name)).await
        };
        if let Err(error) = written.await {
            let _ = tokio::fs::remove_file(&unfinished).await;
            return Err(error);
        }
        Ok(sealed.len() as u64)
    }

    async fn delete(&self, names: Vec<String>) {
        for name in names {
            if let Err(error) = tokio::fs::remove_file(self.0.folder.join(&name)).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a kept part of a file cannot be deleted");
            }
        }
    }

    fn index<T>(&self, work: impl FnOnce(&mut Index) -> T) -> T {
        work(&mut self.0.index.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn name(file: &str, part: u64) -> String {
    format!("{file}.{part}")
}

/// A part that is renamed to another one's name does not open.
fn place(name: &str) -> Place<'_> {
    Place {
        table: "media",
        column: "part",
        row: name.as_bytes(),
    }
}

/// The parts in the folder, the oldest first. What was never finished is deleted.
fn left_over(folder: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (Ok(name), metadata) = (entry.file_name().into_string(), entry.metadata()?) else {
            continue;
        };
        if name.ends_with(UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        } else if metadata.is_file() {
            parts.push((metadata.modified()?, name, metadata.len()));
        }
    }
    parts.sort();
    Ok(parts.into_iter().map(|(_, name, size)| (name, size)).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::vault::DataKey;

    fn vault() -> Vault {
        let vault = Vault::default();
        vault.set_keys(vec![DataKey::generate(1)], 1);
        vault
    }

    #[tokio::test]
    async fn parts_are_sealed_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("media");
        let vault = vault();
        let cache = MediaCache::open(path.clone(), vault.clone());
        assert_eq!(cache.get("a", 0).await, None);
        cache.put("a", 0, Bytes::from_static(b"canary")).await;
        assert_eq!(cache.get("a", 0).await.as_deref(), Some(b"canary".as_slice()));
        let stored = std::fs::read(path.join("a.0")).unwrap();
        assert!(!stored.windows(6).any(|bytes| bytes == b"canary"));

        std::fs::write(path.join("x.part"), "unfinished").unwrap();
        std::fs::copy(path.join("a.0"), path.join("b.0")).unwrap();
        let cache = MediaCache::open(path.clone(), vault);
        assert_eq!(cache.get("a", 0).await.as_deref(), Some(b"canary".as_slice()));
        assert_eq!(cache.get("b", 0).await, None, "another part's bytes");
        assert!(!path.join("x.part").exists() && !path.join("b.0").exists());
    }

    #[tokio::test]
    async fn what_was_not_used_for_longest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        // Room for two parts of 100 bytes and what sealing adds.
        let cache = MediaCache::bounded(folder.path().to_owned(), vault(), 300, 10);
        for file in ["a", "b"] {
            cache.put(file, 0, vec![1; 100].into()).await;
        }
        assert!(cache.get("a", 0).await.is_some());
        cache.put("c", 0, vec![1; 100].into()).await;
        assert!(cache.get("a", 0).await.is_some());
        assert_eq!(cache.get("b", 0).await, None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_nothing_half_done() {
        let folder = tempfile::tempdir().unwrap();
        let cache = MediaCache::open(folder.path().to_owned(), vault());
        let left = cache.put("a", 0, Bytes::from_static(b"canary")).now_or_never();
        assert_eq!(left, None, "it was left before it was done");
        let kept = async {
            while cache.get("a", 0).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), kept).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
