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

    use super::super::database::blocking;
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
                    tracing::error!(error = format!("{error:#}"), "the embedded database broke down; it is started again");
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
            let builder = PgliteServer::builder().path(&self.folder).unix(self.sockets.join(SOCKET));
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
        unavailable(format!("the embedded database in {}: {error:#}", folder.display()))
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
