//! PostgreSQL inside this process (feature `embedded`).
//!
//! It serves one connection at a time and starts a new backend for each; a second client waits in line. It is reached
//! through a socket in its own folder, which only this user may enter, because it asks nobody for a password.

#[cfg(feature = "embedded")]
pub(super) use inside::Embedded;
#[cfg(not(feature = "embedded"))]
pub(super) use outside::Embedded;

#[cfg(feature = "embedded")]
mod inside {
    use std::fs::{File, OpenOptions};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use hub_actors::ports::StoreError;
    use pglite_oxide::PgliteServer;
    use tokio::sync::Mutex;
    use tokio_postgres::Config;

    use super::super::database::blocking;
    use super::super::errors::unavailable;

    /// The database in this process.
    pub(in super::super) struct Embedded {
        folder: PathBuf,
        config: Config,
        server: Arc<Mutex<Option<PgliteServer>>>,
        // Held as long as the database may run.
        _lock: File,
    }

    impl Embedded {
        /// Starts it, and makes its folder if there is none.
        pub async fn start(folder: PathBuf) -> Result<Self, StoreError> {
            let (lock, server) = {
                let folder = folder.clone();
                blocking(move || {
                    let lock = lock(&folder)?;
                    Ok((lock, serve(&folder)?))
                })
                .await?
            };
            let config = server.connection_uri().parse().map_err(|error| explain(&folder, &error))?;
            Ok(Self {
                folder,
                config,
                server: Arc::new(Mutex::new(Some(server))),
                _lock: lock,
            })
        }

        pub fn config(&self) -> Config {
            self.config.clone()
        }

        pub async fn ensure_running(&self) -> Result<(), StoreError> {
            Ok(())
        }

        pub async fn stop(&self) -> Result<(), StoreError> {
            let server = self.server.lock().await.take();
            match server {
                Some(server) => {
                    let folder = self.folder.clone();
                    blocking(move || server.shutdown().map_err(|error| explain(&folder, &error))).await
                }
                None => Ok(()),
            }
        }
    }

    fn serve(folder: &Path) -> Result<PgliteServer, StoreError> {
        PgliteServer::builder()
            .path(folder)
            .start()
            .map_err(|error| explain(folder, &error))
    }

    fn explain(folder: &Path, error: &dyn std::fmt::Display) -> StoreError {
        unavailable(format!("the embedded database in {}: {error:#}", folder.display()))
    }

    fn lock(folder: &Path) -> Result<File, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| explain(folder, &error))?;
        let path = folder.join("hub.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|error| explain(folder, &error))?;
        file.try_lock()
            .map_err(|_| explain(folder, &"it is in use by another process"))?;
        Ok(file)
    }
}

#[cfg(not(feature = "embedded"))]
mod outside {
    use std::path::PathBuf;

    use hub_actors::ports::StoreError;
    use tokio_postgres::Config;

    /// Never made: this hub was built without it.
    pub(in super::super) enum Embedded {}

    impl Embedded {
        pub async fn start(_folder: PathBuf) -> Result<Self, StoreError> {
            Err(StoreError::Failed(
                "database.url is \"embedded\", but this hub was built without the cargo feature `embedded`: build it with \
                 the feature, or set database.url to postgres://user:password@host:port/name"
                    .to_owned(),
            ))
        }

        pub fn config(&self) -> Config {
            match *self {}
        }

        pub async fn ensure_running(&self) -> Result<(), StoreError> {
            match *self {}
        }

        pub async fn stop(&self) -> Result<(), StoreError> {
            match *self {}
        }
    }
}
