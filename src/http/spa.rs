//! The files served at `/`: a built single-page application, or the hub's own page.
//!
//! Which files there are is found out by walking the folder. A request's path is only ever looked up among their names, never
//! used as a path, so no request can reach another file.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use actix_files::NamedFile;
use actix_web::http::header::{self, ContentType, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use hub_actors::clock::instant;
use rust_embed::RustEmbed;
use url::Url;

use super::error::ApiError;
use super::shape::is_under;
use crate::settings::FrontendSettings;

const INDEX: &str = "/index.html";
const ASSETS: &str = "/assets";
/// Built assets carry a hash of their content in their name.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// The page must name the newest assets.
const NEVER_STORED: &str = "no-cache, no-store, must-revalidate";
/// Other files may be stored, but are asked for again: their names stay when their content changes.
const REVALIDATED: &str = "public, no-cache";
/// A folder with more files is not a built application.
const MAX_FILES: usize = 20_000;
/// How deep folders are looked into.
const MAX_DEPTH: usize = 16;
/// A new build is noticed at the first request for one of its files, but the folder is not walked more often than this.
const RESCAN_PAUSE: Duration = Duration::from_secs(2);

/// Paths that are never the page's own, so that a mistyped API address is a 404 and not a page.
const RESERVED: [&str; 5] = ["/api", "/ws", "/admin", "/static", "/metrics"];

#[derive(RustEmbed)]
#[folder = "web/"]
struct BuiltIn;

/// URL path -> file.
type Files = HashMap<String, PathBuf>;

/// What is served at `/`.
#[derive(Debug)]
pub enum Site {
    /// A built single-page application.
    Folder(Folder),
    /// The hub's own page.
    BuiltIn,
}

/// A folder of files.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    files: RwLock<Arc<Files>>,
    scanned: Mutex<Instant>,
    pause: Duration,
}

impl Site {
    /// Walks the configured folder, if there is one. Reads the disk: for the start only.
    ///
    /// # Errors
    /// When the folder cannot be read, holds no `index.html`, or far too many files.
    pub fn load(settings: &FrontendSettings) -> io::Result<Self> {
        Self::load_with_pause(settings, RESCAN_PAUSE)
    }

    fn load_with_pause(settings: &FrontendSettings, pause: Duration) -> io::Result<Self> {
        let Some(dist) = &settings.dist else {
            return Ok(Self::BuiltIn);
        };
        let root = dist.canonicalize()?;
        let files = walk(&root)?;
        if !files.contains_key(INDEX) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} holds no index.html", dist.display()),
            ));
        }
        Ok(Self::Folder(Folder {
            root,
            files: RwLock::new(Arc::new(files)),
            scanned: Mutex::new(instant()),
            pause,
        }))
    }
}

/// Finds the files below a folder. Links that lead out of it are left out.
fn walk(root: &Path) -> io::Result<Files> {
    let base = Url::parse("http://localhost/").map_err(io::Error::other)?;
    let mut files = Files::new();
    let mut folders = vec![(root.to_owned(), base, 0)];
    while let Some((folder, url, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let (Some(name), Ok(path)) = (name.to_str(), entry.path().canonicalize()) else {
                continue;
            };
            let is_hidden = name.starts_with('.') && name != ".well-known";
            if is_hidden || !path.starts_with(root) {
                continue;
            }
            let mut url = url.clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().push(name);
            }
            if path.is_dir() {
                if depth < MAX_DEPTH {
                    folders.push((path, url, depth + 1));
                }
            } else {
                files.insert(url.path().to_owned(), path);
            }
            if files.len() > MAX_FILES {
                return Err(io::Error::other(format!("more than {MAX_FILES} files")));
            }
        }
    }
    Ok(files)
}

impl Folder {
    async fn find(&self, path: &str) -> Option<PathBuf> {
        if let Some(file) = self.known(path) {
            return Some(file);
        }
        self.rescan().await;
        self.known(path)
    }

    fn known(&self, path: &str) -> Option<PathBuf> {
        let files = Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner));
        files.get(path).cloned()
    }

    async fn rescan(&self) {
        {
            let mut scanned = self.scanned.lock().unwrap_or_else(PoisonError::into_inner);
            if scanned.elapsed() < self.pause {
                return;
            }
            *scanned = instant();
        }
        let root = self.root.clone();
        match tokio::task::spawn_blocking(move || walk(&root)).await {
            Ok(Ok(files)) if files.contains_key(INDEX) => {
                *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
            }
            // A build is being replaced: what was there before is served on.
            _ => tracing::warn!("the frontend folder is not complete"),
        }
    }
}

/// Answers what no route took.
///
/// # Errors
/// 404 as for every unrouted path, 405 for a method that files do not have.
pub async fn serve(request: &HttpRequest, site: &Site) -> Result<HttpResponse, ApiError> {
    let path = request.path();
    if is_reserved(path) {
        return Err(ApiError::not_routed());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(ApiError::method_not_allowed(request.method(), "GET, HEAD".to_owned()));
    }
    match site {
        Site::Folder(folder) => from_folder(request, folder, path).await,
        Site::BuiltIn => built_in(request, path),
    }
}

fn is_reserved(path: &str) -> bool {
    path.starts_with("/health") || RESERVED.iter().any(|root| is_under(path, root))
}

async fn from_folder(request: &HttpRequest, folder: &Folder, path: &str) -> Result<HttpResponse, ApiError> {
    let wanted = if path == "/" { INDEX } else { path };
    let found = folder.find(wanted).await;
    if found.is_none() && is_under(path, ASSETS) {
        return Ok(HttpResponse::build(StatusCode::NOT_FOUND)
            .insert_header(ContentType::plaintext())
            .body("Asset not found"));
    }
    let (file, cache) = match found {
        Some(file) if is_under(wanted, ASSETS) => (file, IMMUTABLE),
        Some(file) if wanted != INDEX => (file, REVALIDATED),
        // Paths of the page's own router.
        found => (
            found.or_else(|| folder.known(INDEX)).ok_or_else(ApiError::not_routed)?,
            NEVER_STORED,
        ),
    };
    let file = NamedFile::open_async(&file).await.map_err(|error| {
        tracing::warn!(%error, file = %file.display(), "a file of the frontend cannot be read");
        ApiError::not_routed()
    })?;
    let is_page = cache == NEVER_STORED;
    let mut response = file
        .use_etag(!is_page)
        .use_last_modified(!is_page)
        .into_response(request);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    Ok(response)
}

fn built_in(request: &HttpRequest, path: &str) -> Result<HttpResponse, ApiError> {
    let name = path
        .strip_prefix('/')
        .filter(|name| !name.is_empty())
        .unwrap_or("index.html");
    let known = BuiltIn::iter().any(|known| known == name);
    let file = known
        .then(|| BuiltIn::get(name))
        .flatten()
        .ok_or_else(ApiError::not_routed)?;
    let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
    let is_unchanged = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = HttpResponse::build(if is_unchanged {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    });
    response
        .insert_header((header::ETAG, tag))
        .insert_header((header::CACHE_CONTROL, REVALIDATED));
    if is_unchanged {
        return Ok(response.finish());
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mime = actix_files::file_extension_to_mime(extension);
    let charset = if mime.type_() == "text" { "; charset=utf-8" } else { "" };
    response.content_type(format!("{mime}{charset}"));
    Ok(response.body(file.data.into_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use actix_web::test::TestRequest;

    use super::*;

    struct Dist {
        _parent: tempfile::TempDir,
        dist: PathBuf,
        site: Site,
    }

    fn dist() -> Dist {
        dist_with_pause(Duration::from_hours(1))
    }

    fn dist_with_pause(pause: Duration) -> Dist {
        let parent = tempfile::tempdir().unwrap();
        let dist = parent.path().join("dist");
        fs::create_dir_all(dist.join("assets")).unwrap();
        fs::write(dist.join("index.html"), "<p>page</p>").unwrap();
        fs::write(dist.join("assets/app-1a2b.js"), "script").unwrap();
        fs::write(dist.join("favicon.svg"), "<svg/>").unwrap();
        fs::write(dist.join("a b.txt"), "blank").unwrap();
        fs::write(dist.join(".env"), "canary").unwrap();
        fs::write(parent.path().join("secret.txt"), "canary").unwrap();
        std::os::unix::fs::symlink(parent.path().join("secret.txt"), dist.join("link.txt")).unwrap();
        std::os::unix::fs::symlink(parent.path(), dist.join("up")).unwrap();
        let settings = FrontendSettings {
            dist: Some(dist.clone()),
        };
        let site = Site::load_with_pause(&settings, pause).unwrap();
        Dist {
            _parent: parent,
            dist,
            site,
        }
    }

    async fn get(site: &Site, path: &str) -> Result<(u16, String, String, String), ApiError> {
        let response = serve(&TestRequest::with_uri(path).to_http_request(), site).await?;
        let header = |name| {
            let value = response.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let (status, kind, cache) = (
            response.status().as_u16(),
            header(header::CONTENT_TYPE),
            header(header::CACHE_CONTROL),
        );
        let body = actix_web::body::to_bytes(response.into_body())
            .await
            .ok()
            .unwrap_or_default();
        Ok((status, kind, cache, String::from_utf8(body.to_vec()).unwrap()))
    }

    #[actix_web::test]
    async fn files_and_the_pages_own_paths_are_served() {
        let Dist { site, _parent, .. } = dist();
        for path in [
            "/",
            "/login",
            "/connect?success=true",
            "/auth/telegram",
            "/index.html",
            "/apis",
        ] {
            let (status, kind, cache, body) = get(&site, path).await.unwrap();
            assert_eq!(
                (status, cache.as_str(), body.as_str()),
                (200, NEVER_STORED, "<p>page</p>"),
                "{path}"
            );
            assert!(kind.starts_with("text/html"), "{kind}");
        }
        let (_, kind, cache, body) = get(&site, "/assets/app-1a2b.js").await.unwrap();
        assert_eq!((cache.as_str(), body.as_str()), (IMMUTABLE, "script"));
        assert!(kind.contains("javascript"), "{kind}");
        assert_eq!(get(&site, "/favicon.svg").await.unwrap().2, REVALIDATED);
        assert_eq!(get(&site, "/a%20b.txt").await.unwrap().3, "blank");
        let (status, kind, _, body) = get(&site, "/assets/gone.js").await.unwrap();
        assert_eq!((status, body.as_str()), (404, "Asset not found"));
        assert!(kind.starts_with("text/plain"), "{kind}");
    }

    #[actix_web::test]
    async fn no_path_leads_out_of_the_folder() {
        let Dist { site, _parent, .. } = dist();
        for path in [
            "/../secret.txt",
            "/assets/../../secret.txt",
            "/assets/..%2f..%2fsecret.txt",
            "/assets/%2e%2e/%2e%2e/secret.txt",
            "/..%5csecret.txt",
            "/assets/....//secret.txt",
            "//etc/passwd",
            "/assets//etc/passwd",
            "/%00",
            "/assets/%2fetc%2fpasswd",
            "/link.txt",
            "/up/secret.txt",
            "/.env",
        ] {
            let (status, _, _, body) = get(&site, path).await.unwrap();
            let is_harmless = (status == 404 && body == "Asset not found") || (status == 200 && body == "<p>page</p>");
            assert!(is_harmless, "{path}: {status} {body}");
        }
    }

    #[actix_web::test]
    async fn reserved_paths_and_other_methods_are_refused() {
        let Dist { site, _parent, .. } = dist();
        for site in [&site, &Site::BuiltIn] {
            for path in [
                "/api",
                "/api/",
                "/api/nothing",
                "/ws/x",
                "/admin/",
                "/healthz",
                "/health/",
                "/metrics/x",
            ] {
                assert!(get(site, path).await.unwrap_err().html_404, "{path}");
            }
            let post = TestRequest::post().uri("/login").to_http_request();
            let error = serve(&post, site).await.unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.allow.as_deref()),
                (405, Some("GET, HEAD"))
            );
        }
    }

    #[actix_web::test]
    async fn a_new_build_is_noticed_after_a_pause() {
        for (pause, status, body) in [
            (Duration::from_hours(1), 404, "Asset not found"),
            (Duration::ZERO, 200, "newer"),
        ] {
            let Dist { site, dist, _parent } = dist_with_pause(pause);
            fs::write(dist.join("assets/app-3c4d.js"), "newer").unwrap();
            let (found, _, _, text) = get(&site, "/assets/app-3c4d.js").await.unwrap();
            assert_eq!((found, text.as_str()), (status, body));
        }
    }

    #[actix_web::test]
    async fn without_a_folder_the_hub_has_its_own_page() {
        let (status, kind, _, body) = get(&Site::BuiltIn, "/").await.unwrap();
        assert_eq!(status, 200);
        assert!(kind.starts_with("text/html") && body.contains("/api/docs"), "{kind}");
        assert!(get(&Site::BuiltIn, "/login").await.unwrap_err().html_404);
        assert!(get(&Site::BuiltIn, "/../Cargo.toml").await.unwrap_err().html_404);
    }
}
