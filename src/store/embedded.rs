//! PostgreSQL inside this process (feature `embedded`).
//!
//! It serves one connection at a time and starts a new backend for each; a second client waits in line. It asks nobody
//! for a password, so where there are Unix sockets it is reached through one in a folder that only this user may enter.

#[cfg(feature = "embedded")]
pub(super) use inside::Embedded;
#[cfg(not(feature = "embedded"))]
pub(super) use outside::Embedded;

#[cfg(feature = "embedded")]
mod inside {
    use std::fs::{DirBuilder, File, OpenOptions};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use hub_actors::ports::StoreError;
    use pglite_oxide::PgliteServer;
    use tokio::sync::Mutex;
    use tokio_postgres::Config;
    use uuid::Uuid;

    use super::super::errors::unavailable;

    /// Longest path of a Unix socket on any system that has them (`sun_path`, unix(7)), less its closing zero.
    #[cfg(unix)]
    const MAX_SOCKET_PATH: usize = 103;
    /// The name that a PostgreSQL client makes of the folder and the port 5432.
    #[cfg(unix)]
    const SOCKET: &str = ".s.PGSQL.5432";

    /// The database in this process.
    pub(in super::super) struct Embedded {
        place: Arc<Place>,
        config: Config,
        running: Arc<Mutex<Option<Running>>>,
    }

    /// Where it lives.
    struct Place {
        folder: PathBuf,
        /// Where its socket lies: in its folder, or, if that path is too long, in one that is made for it.
        sockets: PathBuf,
    }

    struct Running {
        /// None after a start that failed; the next connection tries again.
        server: Option<PgliteServer>,
        // Held as long as the database runs.
        _lock: File,
    }

    impl Embedded {
        /// Starts it, and makes its folder if there is none.
        pub async fn start(folder: PathBuf) -> Result<Self, StoreError> {
            blocking(move || {
                let lock = lock(&folder)?;
                let folder = folder.canonicalize().map_err(|error| explain(&folder, &error))?;
                let place = Place {
                    sockets: socket_folder(&folder)?,
                    folder,
                };
                let server = place.serve()?;
                let uri = server.connection_uri();
                let config = uri.parse().map_err(|error| explain(&place.folder, &error))?;
                let running = Running {
                    server: Some(server),
                    _lock: lock,
                };
                Ok(Self {
                    place: Arc::new(place),
                    config,
                    running: Arc::new(Mutex::new(Some(running))),
                })
            })
            .await
        }

        /// How to connect.
        pub fn config(&self) -> Config {
            self.config.clone()
        }

        /// Starts it again if its thread has ended, which a client that misbehaves can bring about.
        pub async fn ensure_running(&self) -> Result<(), StoreError> {
            let (place, running) = (Arc::clone(&self.place), Arc::clone(&self.running).lock_owned().await);
            blocking(move || {
                let mut running = running;
                let Some(running) = running.as_mut() else {
                    return Err(explain(&place.folder, &"it was stopped"));
                };
                if running.server.is_some() && place.answers() {
                    return Ok(());
                }
                if let Some(Err(error)) = running.server.take().map(PgliteServer::shutdown) {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the embedded database broke down; it is started again"
                    );
                }
                running.server = Some(place.serve()?);
                Ok(())
            })
            .await
        }

        /// Stops it and gives its folder free. All connections must be closed before.
        pub async fn stop(&self) -> Result<(), StoreError> {
            let (place, running) = (Arc::clone(&self.place), self.running.lock().await.take());
            let Some(Running { server, _lock }) = running else {
                return Ok(());
            };
            blocking(move || {
                let stopped = server.map_or(Ok(()), PgliteServer::shutdown);
                place.tidy();
                drop(_lock);
                stopped.map_err(|error| explain(&place.folder, &error))
            })
            .await
        }
    }

    impl Place {
        #[cfg(unix)]
        fn serve(&self) -> Result<PgliteServer, StoreError> {
            let builder = PgliteServer::builder()
                .path(&self.folder)
                .unix(self.sockets.join(SOCKET));
            builder.start().map_err(|error| explain(&self.folder, &error))
        }

        #[cfg(not(unix))]
        fn serve(&self) -> Result<PgliteServer, StoreError> {
            let builder = PgliteServer::builder().path(&self.folder);
            builder.start().map_err(|error| explain(&self.folder, &error))
        }

        /// False when nobody listens any more.
        #[cfg(unix)]
        fn answers(&self) -> bool {
            std::os::unix::net::UnixStream::connect(self.sockets.join(SOCKET)).is_ok()
        }

        /// A new port could not be told to the pool, so it is not started again here.
        #[cfg(not(unix))]
        fn answers(&self) -> bool {
            true
        }

        #[cfg(unix)]
        fn tidy(&self) {
            // Left behind, they do no harm: a socket is made anew, and the folder's name is used once.
            let _ = std::fs::remove_file(self.sockets.join(SOCKET));
            if self.sockets != self.folder {
                let _ = std::fs::remove_dir(&self.sockets);
            }
        }

        #[cfg(not(unix))]
        fn tidy(&self) {}
    }

    #[cfg(unix)]
    fn socket_folder(folder: &Path) -> Result<PathBuf, StoreError> {
        use std::os::unix::ffi::OsStrExt;

        if folder.join(SOCKET).as_os_str().as_bytes().len() <= MAX_SOCKET_PATH {
            return Ok(folder.to_owned());
        }
        let short = std::env::temp_dir().join(format!("hub-{}", Uuid::new_v4().simple()));
        private_folder(&short)?;
        Ok(short)
    }

    #[cfg(not(unix))]
    fn socket_folder(folder: &Path) -> Result<PathBuf, StoreError> {
        Ok(folder.to_owned())
    }

    /// A folder that only this user may enter. One that is there already keeps its rights.
    fn private_folder(folder: &Path) -> Result<(), StoreError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(|error| explain(folder, &error))
    }

    fn lock(folder: &Path) -> Result<File, StoreError> {
        private_folder(folder)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("hub.lock"))
            .map_err(|error| explain(folder, &error))?;
        file.try_lock()
            .map_err(|_| explain(folder, &"it is in use by another process"))?;
        Ok(file)
    }

    fn explain(folder: &Path, error: &dyn std::fmt::Display) -> StoreError {
        let text = format!("the embedded database in {}: {error:#}", folder.display());
        // It unpacks itself into the user's cache folder, which a service account may not have.
        let hint = if text.contains("cache") {
            "; set XDG_CACHE_HOME to a folder that the hub may write to"
        } else {
            ""
        };
        unavailable(text + hint)
    }

    /// Runs what blocks, such as starting a database, on a thread where that is allowed.
    async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| unavailable(error.to_string()))?
    }

    #[cfg(unix)]
    #[cfg(test)]
    mod tests {
        use std::io::Write;
        use std::os::unix::net::UnixStream;
        use std::time::Duration;

        use super::*;

        async fn answer(embedded: &Embedded) -> i32 {
            let (client, connection) = embedded.config().connect(tokio_postgres::NoTls).await.unwrap();
            let running = tokio::spawn(connection);
            let row = client.query_one("SELECT 42", &[]).await.unwrap();
            drop(client);
            running.await.unwrap().unwrap();
            row.get(0)
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn it_is_started_again_when_a_client_breaks_it() {
            let folder = tempfile::tempdir().unwrap();
            let embedded = Embedded::start(folder.path().join("database")).await.unwrap();
            assert_eq!(answer(&embedded).await, 42);
            // A startup packet of a length that no client sends.
            let mut broken = UnixStream::connect(embedded.place.sockets.join(SOCKET)).unwrap();
            broken.write_all(&[0, 0, 0, 1, 0, 3, 0, 0]).unwrap();
            drop(broken);
            for _ in 0..100 {
                if !embedded.place.answers() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(!embedded.place.answers(), "the premise of this test: it ends");
            embedded.ensure_running().await.unwrap();
            assert_eq!(answer(&embedded).await, 42);
            embedded.stop().await.unwrap();
            assert!(embedded.ensure_running().await.is_err());
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn a_long_path_has_its_socket_elsewhere() {
            let folder = tempfile::tempdir().unwrap();
            let long = folder.path().join("a".repeat(60)).join("b".repeat(60));
            let embedded = Embedded::start(long).await.unwrap();
            assert_ne!(embedded.place.sockets, embedded.place.folder);
            assert_eq!(answer(&embedded).await, 42);
            embedded.stop().await.unwrap();
            assert!(!embedded.place.sockets.exists());
        }
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
        /// Says that there is none.
        pub async fn start(_folder: PathBuf) -> Result<Self, StoreError> {
            Err(StoreError::Failed(
                "database.url is \"embedded\", but this hub was built without the cargo feature `embedded`: build it with \
                 the feature, or set database.url to postgres://user:password@host:port/name"
                    .to_owned(),
            ))
        }

        /// Never called.
        pub fn config(&self) -> Config {
            match *self {}
        }

        /// Never called.
        pub async fn ensure_running(&self) -> Result<(), StoreError> {
            match *self {}
        }

        /// Never called.
        pub async fn stop(&self) -> Result<(), StoreError> {
            match *self {}
        }
    }
}
