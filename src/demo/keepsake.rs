//! What the demo remembers between its runs: one file, readable by its owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "demo.json";

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepsakeError {
    /// Reading or writing failed.
    #[error("cannot use {}: {reason}", file.display())]
    File { file: PathBuf, reason: io::Error },
    /// It is not what a demo has written.
    #[error("{} is damaged: remove its folder to begin afresh", .0.display())]
    Damaged(PathBuf),
    /// Two demos on one database would spoil it.
    #[error("another demo runs in this folder: it holds {}", .0.display())]
    Held(PathBuf),
}

/// The correspondent's account, as the hub gave it when it was linked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkedAccount {
    pub(super) id: String,
    /// The signing secret, shown once.
    pub(super) secret: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    email: String,
    password: String,
    account: Option<LinkedAccount>,
    port: Option<u16>,
}

/// The demo's user and its correspondent's account and port. Holds the folder for this process.
pub(super) struct Keepsake {
    pub(super) email: String,
    pub(super) password: String,
    pub(super) account: Option<LinkedAccount>,
    /// Where the correspondent listens.
    pub(super) port: Option<u16>,
    path: PathBuf,
    file: File,
}

impl Keepsake {
    /// Reads the file in the folder, or makes it with a fresh password.
    pub(super) fn open(folder: &Path) -> Result<Self, KeepsakeError> {
        let path = folder.join(FILE_NAME);
        let failed = |reason| KeepsakeError::File {
            file: path.clone(),
            reason,
        };
        if !folder.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(KeepsakeError::Held(path)),
            Err(fs::TryLockError::Error(reason)) => return Err(failed(reason)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let is_first_run = text.is_empty();
        let content = if is_first_run {
            Content {
                email: "demo@example.com".to_owned(),
                password: hex::encode(rand::random::<[u8; 10]>()),
                ..Content::default()
            }
        } else {
            serde_json::from_str(&text).map_err(|_| KeepsakeError::Damaged(path.clone()))?
        };
        let Content {
            email,
            password,
            account,
            port,
        } = content;
        let mut keepsake = Self {
            email,
            password,
            account,
            port,
            path,
            file,
        };
        if is_first_run {
            // Before the user is registered: a run that breaks off must not leave a user whose password nobody knows.
            keepsake.save()?;
        }
        Ok(keepsake)
    }

    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Writes it down.
    pub(super) fn save(&mut self) -> Result<(), KeepsakeError> {
        let content = Content {
            email: self.email.clone(),
            password: self.password.clone(),
            account: self.account.clone(),
            port: self.port,
        };
        let write = |file: &mut File| {
            let text = serde_json::to_string_pretty(&content)?;
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)?;
            file.sync_all()
        };
        write(&mut self.file).map_err(|reason| KeepsakeError::File {
            file: self.path.clone(),
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_run_finds_what_the_first_has_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data/demo");
        let mut first = Keepsake::open(&data).expect("a new file");
        assert_eq!(first.password.len(), 20);
        let mode = fs::metadata(data.join(FILE_NAME))
            .expect("the file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Keepsake::open(&data), Err(KeepsakeError::Held(_))));
        let account = LinkedAccount {
            id: "a".to_owned(),
            secret: "b".to_owned(),
        };
        first.account = Some(account.clone());
        first.port = Some(4711);
        first.save().expect("saved");
        let password = first.password.clone();
        drop(first);
        let second = Keepsake::open(&data).expect("the kept file");
        assert!(second.account == Some(account) && second.port == Some(4711) && second.password == password);
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE_NAME), "{").expect("written");
        assert!(matches!(Keepsake::open(folder.path()), Err(KeepsakeError::Damaged(_))));
    }
}
