//! Files of messages: they stream through the hub, whole and in parts, to the person alone.

use reqwest::Method;
use serde_json::json;
use telegram_dc::{MediaKind, NewMedia, Peer};

use crate::bed::{Bed, account, conversation, friend, log_in, message, post, text, write};
use crate::support::{self, Kind, answer};

#[test]
fn a_photo_comes_byte_for_byte() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let me = account(&bed.dc, "+15551002", None).await;
        let friend = friend(&bed.dc, "Photographer").await;
        let user = bed.hub.user().await;
        log_in(&user, "+15551002").await;
        write(&bed.dc, me, friend, "hello").await;
        let chat = conversation(&user, "Photographer").await;
        let media = |kind, size, name: Option<&str>, mime: Option<&str>| NewMedia {
            kind,
            size,
            seed: 5,
            name: name.map(str::to_owned),
            mime: mime.map(str::to_owned),
            ..NewMedia::default()
        };
        let files = [
            (
                "a picture",
                media(MediaKind::Photo, 300_000, None, None),
                "image/jpeg",
                "inline",
            ),
            (
                "a file",
                media(MediaKind::Document, 2_500_001, Some("big.bin"), None),
                "application/octet-stream",
                "attachment",
            ),
            (
                "a page",
                media(MediaKind::Document, 1_000, Some("x.html"), Some("text/html")),
                "application/octet-stream",
                "attachment",
            ),
        ];
        for (caption, file, mime, disposition) in files {
            post(&bed.dc, me, friend, caption, Some(file)).await;
            let shown = message(&user, &chat, caption).await;
            let url = text(&shown["mediaUrl"]);
            let stored = bed.dc.messages(me, Some(Peer::User(friend))).await.unwrap();
            let id = stored
                .iter()
                .find(|one| one.text == caption)
                .and_then(|one| one.file)
                .unwrap();
            let original = bed.dc.file(id).await.unwrap();

            let part = user
                .request(Method::GET, &url)
                .header("range", "bytes=100-199")
                .send()
                .await
                .unwrap();
            assert_eq!(part.status(), 206, "{caption}");
            assert_eq!(
                part.headers()["content-range"],
                format!("bytes 100-199/{}", original.len())
            );
            assert_eq!(part.bytes().await.unwrap(), original[100..200]);
            let end = user
                .request(Method::GET, &url)
                .header("range", "bytes=-50")
                .send()
                .await
                .unwrap();
            assert_eq!(end.bytes().await.unwrap(), original[original.len() - 50..]);

            let whole = user.request(Method::GET, &url).send().await.unwrap();
            assert_eq!(whole.status(), 200);
            assert_eq!(whole.headers()["content-type"], mime, "{caption}");
            assert_eq!(whole.headers()["x-content-type-options"], "nosniff");
            assert!(
                whole.headers()["content-disposition"]
                    .to_str()
                    .unwrap()
                    .starts_with(disposition)
            );
            let tag = whole.headers()["etag"].clone();
            assert!(whole.bytes().await.unwrap() == original[..], "{caption}: other bytes");
            let known = user
                .request(Method::GET, &url)
                .header("if-none-match", tag)
                .send()
                .await
                .unwrap();
            assert_eq!(known.status(), 304);
            let beyond = format!("bytes={}-", original.len());
            let beyond = user
                .request(Method::GET, &url)
                .header("range", beyond)
                .send()
                .await
                .unwrap();
            assert_eq!(beyond.status(), 416);

            let asked = bed.dc.count("upload.getFile").await;
            assert!(
                user.request(Method::GET, &url)
                    .send()
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap()
                    == original[..]
            );
            assert_eq!(bed.dc.count("upload.getFile").await, asked, "it is kept");

            let stranger = bed.hub.user().await;
            stranger.get(&url).await.expect(404);
            bed.hub.client().get(&url).await.expect(401);
            user.get(&format!("{}9", &url)).await.expect(404);
        }
        // Nothing of it lies open on the disk.
        let kept = bed.hub.database.folder().join("media");
        assert!(std::fs::read_dir(kept).unwrap().count() >= 5);
        bed.hub.stop().await;
    });
}

#[test]
fn a_page_shows_pictures_with_the_cookie_of_its_sign_in() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let me = account(&bed.dc, "+15551003", None).await;
        let friend = friend(&bed.dc, "Photographer").await;
        let user = bed.hub.user().await;
        log_in(&user, "+15551003").await;
        let photo = NewMedia {
            size: 5_000,
            ..NewMedia::default()
        };
        post(&bed.dc, me, friend, "look", Some(photo)).await;
        let chat = conversation(&user, "Photographer").await;
        let url = text(&message(&user, &chat, "look").await["mediaUrl"]);
        let body = json!({ "email": user.email, "password": support::PASSWORD });
        let signed_in = bed.hub.client().post("/api/auth/login", &body).await;
        let cookie = signed_in.headers["set-cookie"].to_str().unwrap().to_owned();
        for word in ["Path=/api/media", "HttpOnly", "SameSite=Strict"] {
            assert!(cookie.contains(word), "{cookie}");
        }
        let pair = cookie.split(';').next().unwrap().to_owned();
        let nobody = bed.hub.client();
        let with_cookie = async |path: &str| {
            answer(nobody.request(Method::GET, path).header("cookie", &pair))
                .await
                .status
        };
        assert_eq!(with_cookie(&url).await, 200);
        assert_eq!(with_cookie("/api/auth/me").await, 401, "it opens nothing else");
        let refresh = json!({ "refreshToken": signed_in.json()["tokens"]["refreshToken"] });
        nobody.post("/api/auth/logout", &refresh).await.expect(200);
        assert_eq!(with_cookie(&url).await, 401);
        bed.hub.stop().await;
    });
}
