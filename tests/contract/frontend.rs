//! What is served at `/`: the hub's own page, or a built single-page application.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::Bed;
use crate::support::{self, Hub, Kind};

#[test]
fn without_a_folder_a_small_page_says_that_the_hub_runs() {
    support::run(async {
        let bed = Bed::usual();
        let client = bed.client();
        let page = client.get("/").await;
        page.expect(200);
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        assert!(page.text.contains("/api/docs"), "it leads to the documentation");
        let style = client.get("/style.css").await;
        style.expect(200);
        let tag = style.headers["etag"].clone();
        let request = client
            .request(reqwest::Method::GET, "/style.css")
            .header("if-none-match", tag);
        support::answer(request).await.expect(304);
        for path in ["/login", "/index", "/assets/app.js", "/api/nothing", "/admin/", "/ws/"] {
            let answer = client.get(path).await;
            answer.expect(404);
            assert!(
                answer.headers["content-type"]
                    .to_str()
                    .unwrap()
                    .starts_with("text/html"),
                "{path}"
            );
        }
    });
}

/// Asks with the path as it is: an HTTP client would tidy it up.
async fn raw(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_built_application_is_served_with_its_history_and_nothing_else() {
    support::run(async {
        let outside = tempfile::tempdir().unwrap();
        let dist = outside.path().join("dist");
        std::fs::create_dir_all(dist.join("assets")).unwrap();
        std::fs::write(outside.path().join("secret.txt"), "top secret").unwrap();
        std::fs::write(dist.join("index.html"), "<title>the application</title>").unwrap();
        std::fs::write(dist.join("favicon.svg"), "<svg/>").unwrap();
        std::fs::write(dist.join("assets/app-1a2b.js"), "let a = 1").unwrap();
        std::fs::write(dist.join(".env"), "top secret").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.txt"), dist.join("assets/link.txt")).unwrap();
        let hub = Hub::start_with(Kind::Embedded, |settings| settings.frontend.dist = Some(dist.clone())).await;
        let client = hub.client();

        for path in [
            "/",
            "/login",
            "/auth/telegram-phone",
            "/connect?success=true",
            "/index.html",
            "/.env",
        ] {
            let page = client.get(path).await;
            page.expect(200);
            assert_eq!(page.text, "<title>the application</title>", "{path}");
            assert_eq!(
                page.headers["cache-control"], "no-cache, no-store, must-revalidate",
                "{path}"
            );
            assert!(
                page.headers["content-type"].to_str().unwrap().starts_with("text/html"),
                "{path}"
            );
        }
        let script = client.get("/assets/app-1a2b.js").await;
        script.expect(200);
        assert_eq!(script.text, "let a = 1");
        assert_eq!(script.headers["cache-control"], "public, max-age=31536000, immutable");
        assert!(script.headers["content-type"].to_str().unwrap().contains("javascript"));
        let icon = client.get("/favicon.svg").await;
        icon.expect(200);
        assert_eq!(icon.headers["cache-control"], "public, no-cache");
        let missing = client.get("/assets/gone.js").await;
        missing.expect(404);
        assert_eq!(missing.text, "Asset not found");
        for path in ["/api/nothing", "/health/x", "/admin/x", "/ws/x", "/static/x"] {
            client.get(path).await.expect(404);
        }
        support::answer(client.request(reqwest::Method::POST, "/login"))
            .await
            .expect(405);

        for path in [
            "/assets/../../secret.txt",
            "/assets/..%2f..%2fsecret.txt",
            "/assets/%2e%2e/%2e%2e/secret.txt",
            "/..%5c..%5csecret.txt",
            "/../secret.txt",
            "/assets/..;/..;/secret.txt",
            "/assets/....//....//secret.txt",
            "/assets/%252e%252e/secret.txt",
            "/assets/link.txt",
            "/assets/%00/../../../secret.txt",
            "//etc/passwd",
            "/assets//etc/passwd",
            "/assets/../../../../../../../../etc/passwd",
        ] {
            let answer = raw(hub.address, path).await;
            assert!(
                !answer.contains("top secret") && !answer.contains("root:"),
                "{path}: {answer}"
            );
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["200", "400", "404"].contains(&status), "{path}: {answer}");
            assert!(
                status != "200" || answer.contains("the application"),
                "{path}: {answer}"
            );
        }
        hub.stop().await;
    });
}
