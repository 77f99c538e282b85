//! Files up and down, byte for byte.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::*;
use grammers_client::media::{Attribute, Media};
use grammers_client::message::InputMessage;
use grammers_tl_types::{self as tl, enums, functions as f};
use telegram_dc::{DcConfig, MediaKind, NewMedia, NewMessage, Peer};

fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 31 + n / 251).to_le_bytes()[0]).collect()
}

async fn download(hub: &Hub, media: &Media) -> Vec<u8> {
    let mut out = Vec::new();
    let mut parts = hub.client.iter_download(media);
    while let Some(part) = parts.next().await.unwrap() {
        out.extend(part);
    }
    out
}

async fn upload(hub: &Hub, bytes: &[u8], name: &str) -> grammers_client::media::Uploaded {
    hub.client
        .upload_stream(&mut &bytes[..], bytes.len(), name.into())
        .await
        .unwrap()
}

#[tokio::test]
async fn photo_document_and_voice_go_up_and_come_down() {
    let scene = Scene::new().await;
    scene.push("send me things").await;
    let peer: grammers_session::types::PeerRef = scene.friend_peer().await.into();
    // Three parts, an odd size, and a small one.
    let (photo, document, voice) = (noise(1_300_000), noise(524_289), noise(5_000));
    let file = upload(&scene.hub, &photo, "photo.jpg").await;
    let message = InputMessage::new().text("a photo").photo(file);
    Box::pin(scene.hub.client.send_message(peer, message)).await.unwrap();
    let file = upload(&scene.hub, &document, "paper.pdf").await;
    let message = InputMessage::new()
        .text("a paper")
        .mime_type("application/pdf")
        .document(file);
    Box::pin(scene.hub.client.send_message(peer, message)).await.unwrap();
    let file = upload(&scene.hub, &voice, "voice.ogg").await;
    let attribute = Attribute::Voice {
        duration: Duration::from_secs(7),
        waveform: None,
    };
    let message = InputMessage::new()
        .mime_type("audio/ogg")
        .document(file)
        .attribute(attribute);
    Box::pin(scene.hub.client.send_message(peer, message)).await.unwrap();
    let mut history = scene.hub.client.iter_messages(peer);
    let mut seen = Vec::new();
    while let Some(message) = history.next().await.unwrap() {
        if let Some(media) = message.media() {
            let bytes = download(&scene.hub, &media).await;
            match &media {
                Media::Photo(_) => assert!(bytes == photo),
                Media::Document(file) if file.raw.voice => {
                    assert_eq!(file.duration(), Some(7.0));
                    assert!(bytes == voice);
                }
                Media::Document(file) => {
                    assert_eq!(file.name(), Some("paper.pdf"));
                    assert_eq!(file.mime_type(), Some("application/pdf"));
                    assert_eq!(file.size(), Some(document.len()));
                    assert!(bytes == document);
                }
                other => panic!("{other:?}"),
            }
            seen.push(message.text().to_owned());
        }
    }
    assert_eq!(seen, ["", "a paper", "a photo"]);
    let stored = scene.dc.messages(scene.me, None).await.unwrap();
    assert!(scene.dc.file(stored[1].file.unwrap()).await.unwrap()[..] == photo[..]);
    assert_eq!(scene.dc.count("upload.saveFilePart").await, 3 + 2 + 1);
}

async fn push_media(scene: &Scene, media: NewMedia) {
    let message = NewMessage {
        account: Some(scene.me),
        peer: Some(Peer::User(scene.friend)),
        text: "look".into(),
        media: Some(media),
        ..Default::default()
    };
    scene.dc.push_message(message).await.unwrap();
}

async fn newest_media(scene: &Scene) -> Media {
    let peer: grammers_session::types::PeerRef = scene.friend_peer().await.into();
    let message = scene.hub.client.iter_messages(peer).next().await.unwrap().unwrap();
    message.media().unwrap()
}

async fn newest_bytes(scene: &Scene) -> Vec<u8> {
    let stored = scene.dc.messages(scene.me, None).await.unwrap();
    scene
        .dc
        .file(stored.last().unwrap().file.unwrap())
        .await
        .unwrap()
        .to_vec()
}

#[tokio::test]
async fn what_others_send_comes_down() {
    let scene = Scene::new().await;
    for (kind, size) in [
        (MediaKind::Photo, 40_000),
        (MediaKind::Video, 700_000),
        (MediaKind::Voice, 4_096),
    ] {
        push_media(
            &scene,
            NewMedia {
                kind,
                size,
                seed: 9,
                duration: Some(3),
                ..Default::default()
            },
        )
        .await;
        let media = newest_media(&scene).await;
        assert!(download(&scene.hub, &media).await == newest_bytes(&scene).await);
        let thumbs = match &media {
            Media::Photo(photo) => photo.thumbs().len(),
            Media::Document(document) => document.thumbs().len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(thumbs > 0, kind != MediaKind::Voice);
    }
    let base64 = Some("aGVsbG8=".into());
    push_media(
        &scene,
        NewMedia {
            kind: MediaKind::Document,
            base64,
            ..Default::default()
        },
    )
    .await;
    assert_eq!(download(&scene.hub, &newest_media(&scene).await).await, b"hello");
}

#[tokio::test]
async fn a_file_on_another_dc_is_fetched_there() {
    let scene = Scene::new().await;
    let media = NewMedia {
        kind: MediaKind::Document,
        size: 10_000,
        dc: Some(4),
        ..Default::default()
    };
    push_media(&scene, media).await;
    let media = newest_media(&scene).await;
    assert!(download(&scene.hub, &media).await == newest_bytes(&scene).await);
    assert_eq!(scene.dc.count("auth.importAuthorization").await, 1);
    let Media::Document(document) = media else {
        panic!("a document")
    };
    let location = grammers_client::media::Downloadable::to_raw_input_location(&document).unwrap();
    let call = f::upload::GetFile {
        precise: false,
        cdn_supported: false,
        location,
        offset: 0,
        limit: 4096,
    };
    let (code, name, value) = rpc(scene.hub.call(&call).await);
    assert_eq!((code, name.as_str(), value), (303, "FILE_MIGRATE", Some(4)));
}

#[tokio::test]
async fn ranges_limits_and_stale_references() {
    let scene = Scene::new().await;
    push_media(
        &scene,
        NewMedia {
            kind: MediaKind::Document,
            size: 20_000,
            ..Default::default()
        },
    )
    .await;
    let bytes = newest_bytes(&scene).await;
    let Media::Document(document) = newest_media(&scene).await else {
        panic!("a document")
    };
    let location = grammers_client::media::Downloadable::to_raw_input_location(&document).unwrap();
    let call = |offset, limit| f::upload::GetFile {
        precise: false,
        cdn_supported: false,
        location: location.clone(),
        offset,
        limit,
    };
    let enums::upload::File::File(part) = scene.hub.call(&call(8192, 4096)).await.unwrap() else {
        panic!("a piece");
    };
    assert!(part.bytes == bytes[8192..12288]);
    let enums::upload::File::File(end) = scene.hub.call(&call(16384, 8192)).await.unwrap() else {
        panic!("a piece");
    };
    assert!(end.bytes == bytes[16384..]);
    assert_eq!(rpc(scene.hub.call(&call(0, 1000)).await).1, "LIMIT_INVALID");
    assert_eq!(rpc(scene.hub.call(&call(100, 4096)).await).1, "OFFSET_INVALID");
    scene.dc.expire_file_references().await;
    assert_eq!(rpc(scene.hub.call(&call(0, 4096)).await).1, "FILE_REFERENCE_EXPIRED");
    let media = newest_media(&scene).await;
    assert!(download(&scene.hub, &media).await == bytes);
}

#[tokio::test]
async fn an_upload_with_a_hole_is_refused() {
    let scene = Scene::new().await;
    scene.push("x").await;
    let peer = scene.friend_peer().await;
    for part in [0, 2] {
        let call = f::upload::SaveFilePart {
            file_id: 5,
            file_part: part,
            bytes: vec![7; 1024],
        };
        assert!(scene.hub.call(&call).await.unwrap());
    }
    let file = tl::types::InputFile {
        id: 5,
        parts: 3,
        name: "a".into(),
        md5_checksum: String::new(),
    };
    let media = tl::types::InputMediaUploadedPhoto {
        spoiler: false,
        live_photo: false,
        file: file.into(),
        stickers: None,
        ttl_seconds: None,
        video: None,
    };
    let call = f::messages::UploadMedia {
        business_connection_id: None,
        peer,
        media: media.into(),
    };
    assert_eq!(
        rpc(scene.hub.call(&call).await),
        (400, "FILE_PART_MISSING".into(), Some(1))
    );
}

#[tokio::test]
async fn storage_is_bounded() {
    let scene = Scene::with(DcConfig {
        files_cap: 2048,
        ..Default::default()
    })
    .await;
    let part = |n| f::upload::SaveFilePart {
        file_id: n,
        file_part: 0,
        bytes: vec![7; 1024],
    };
    scene.hub.call(&part(1)).await.unwrap();
    scene.hub.call(&part(2)).await.unwrap();
    assert_eq!(rpc(scene.hub.call(&part(3)).await).1, "STORAGE_FULL");
}

#[tokio::test]
async fn albums_belong_together() {
    let scene = Scene::new().await;
    scene.push("x").await;
    let peer: grammers_session::types::PeerRef = scene.friend_peer().await.into();
    let mut album = Vec::new();
    for n in 0..3 {
        let file = upload(&scene.hub, &noise(2000 + n), "p.jpg").await;
        album.push(
            grammers_client::media::InputMedia::new()
                .caption(format!("{n}"))
                .photo(file),
        );
    }
    let sent = scene.hub.client.send_album(peer, album).await.unwrap();
    let groups: Vec<_> = sent
        .iter()
        .map(|message| message.as_ref().unwrap().grouped_id())
        .collect();
    assert!(groups[0].is_some() && groups.iter().all(|group| *group == groups[0]));
}
