//! The keys that a hub on the embedded database makes for itself at its first start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::{Settings, SettingsError};

/// Where the keys came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// All were configured.
    Configured,
    /// Read from the file of an earlier start.
    Kept(PathBuf),
    /// Made just now and written to this file.
    Created(PathBuf),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
struct Secrets {
    jwt_secret: Option<SecretString>,
    vault_key: Option<SecretString>,
    admin_token: Option<SecretString>,
}

impl Settings {
    /// Fills the keys that are not configured from `secrets.toml` in the data folder, and makes that file, with random
    /// keys, readable by its owner only, when there is none. Calling it again changes nothing.
    ///
    /// # Errors
    /// [`SettingsError::MissingKeys`] with an external database: several hubs and backups need the keys, so they
    /// are never made up. [`SettingsError::FirstRun`] when the file cannot be read or written, or has gone while the
    /// database that needs its key is still there.
    pub fn ensure_keys(&mut self) -> Result<KeySource, SettingsError> {
        if !self.database.is_embedded() {
            let missing: Vec<_> = [
                (
                    "auth.jwt_secret (HUB__AUTH__JWT_SECRET)",
                    self.auth.jwt_secret.is_none(),
                ),
                ("vault.key (HUB__VAULT__KEY)", self.vault.key.is_none()),
            ]
            .into_iter()
            .filter_map(|(setting, is_missing)| is_missing.then_some(setting))
            .collect();
            return if missing.is_empty() {
                Ok(KeySource::Configured)
            } else {
                Err(SettingsError::MissingKeys(missing))
            };
        }
        if self.auth.jwt_secret.is_some() && self.vault.key.is_some() && self.admin.token.is_some() {
            return Ok(KeySource::Configured);
        }
        let file = self.database.secrets_file();
        let failed = |reason: String| SettingsError::FirstRun {
            file: file.clone(),
            reason,
        };
        let created = match fs::exists(&file) {
            Ok(true) => false,
            Ok(false) => {
                if self.vault.key.is_none() && self.database.is_made() {
                    return Err(failed(format!(
                        "it is gone, but the database in {} is sealed with the vault_key that it held: put it back, or set vault.key \
                         (HUB__VAULT__KEY)",
                        self.database.cluster_folder().display()
                    )));
                }
                create(&file, &self.fresh_secrets()).map_err(|error| failed(format!("cannot write it: {error}")))?
            }
            Err(error) => return Err(failed(format!("cannot look for it: {error}"))),
        };
        let text = fs::read_to_string(&file).map_err(|error| failed(format!("cannot read it: {error}")))?;
        // The parser's own text would quote the line, and with it a key.
        let secrets: Secrets = toml::from_str(&text)
            .map_err(|_| failed("it must hold jwt_secret, vault_key and admin_token, and nothing else".to_owned()))?;
        for (slot, stored, setting) in [
            (&mut self.auth.jwt_secret, secrets.jwt_secret, "jwt_secret"),
            (&mut self.vault.key, secrets.vault_key, "vault_key"),
            (&mut self.admin.token, secrets.admin_token, "admin_token"),
        ] {
            if slot.is_none() {
                *slot = Some(stored.ok_or_else(|| failed(format!("it has no {setting}, and none is configured")))?);
            }
        }
        self.check()?;
        Ok(if created {
            KeySource::Created(file)
        } else {
            KeySource::Kept(file)
        })
    }

    fn fresh_secrets(&self) -> String {
        let mut text = String::from(
            "# Keys of this hub, made at its first start. Keep a copy in a safe place: without vault_key nothing that the\n\
             # database holds can be read, and whoever has it can read everything.\n",
        );
        for (name, is_missing) in [
            ("jwt_secret", self.auth.jwt_secret.is_none()),
            ("vault_key", self.vault.key.is_none()),
            ("admin_token", self.admin.token.is_none()),
        ] {
            if is_missing {
                text.push_str(&format!("{name} = \"{}\"\n", hex::encode(rand::random::<[u8; 32]>())));
            }
        }
        text
    }
}

/// Writes the file whole or not at all. False when another process was first: its keys count.
fn create(file: &Path, text: &str) -> io::Result<bool> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = file.with_extension(format!("toml.{:016x}", rand::random::<u64>()));
    let mut handle = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    handle.write_all(text.as_bytes())?;
    handle.sync_all()?;
    drop(handle);
    // A link, unlike a rename, never replaces a file that is there.
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => {
            File::open(folder)?.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn embedded(folder: &Path) -> Settings {
        let mut settings = Settings::default();
        settings.database.path = folder.to_owned();
        settings
    }

    fn vault_key(settings: &Settings) -> String {
        settings.vault.key.as_ref().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn the_first_start_makes_keys_and_the_second_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut first = embedded(&data);
        let file = data.join("secrets.toml");
        assert_eq!(first.ensure_keys().unwrap(), KeySource::Created(file.clone()));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "the draft is left behind");

        fs::create_dir_all(data.join("postgres/base")).unwrap();
        let mut second = embedded(&data);
        assert_eq!(second.ensure_keys().unwrap(), KeySource::Kept(file.clone()));
        assert_eq!(vault_key(&first), vault_key(&second));

        fs::remove_file(&file).unwrap();
        let error = embedded(&data).ensure_keys().unwrap_err().to_string();
        assert!(error.contains("put it back"), "{error}");
    }

    #[test]
    fn starts_at_the_same_moment_agree() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut settings = embedded(folder.path());
                        settings.ensure_keys().unwrap();
                        vault_key(&settings)
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn an_external_database_needs_configured_keys() {
        let mut settings = Settings::default();
        settings.database.url = SecretString::from("postgres://hub@db.example/hub");
        let error = settings.ensure_keys().unwrap_err().to_string();
        assert!(
            error.contains("HUB__AUTH__JWT_SECRET") && error.contains("HUB__VAULT__KEY"),
            "{error}"
        );
        settings.auth.jwt_secret = Some(SecretString::from("x".repeat(32)));
        settings.vault.key = Some(SecretString::from("0".repeat(64)));
        assert_eq!(settings.ensure_keys().unwrap(), KeySource::Configured);
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secrets.toml"), "jwt_secret = canary\n").unwrap();
        let error = embedded(folder.path()).ensure_keys().unwrap_err().to_string();
        assert!(error.contains("secrets.toml") && !error.contains("canary"), "{error}");
    }
}
