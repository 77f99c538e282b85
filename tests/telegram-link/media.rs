//! Files stream through the link byte for byte, wherever they are kept.

use futures_util::TryStreamExt;
use hub_actors::domain::SendFailure;
use hub_actors::ports::MediaRequest;
use telegram_dc::{Fault, FaultScript, MediaKind, NewMedia, NewMessage, Peer};

use super::bed::{Bed, Linked};

struct File {
    locator: String,
    bytes: Vec<u8>,
    message: i32,
}

/// Somebody sends a file.
async fn file(bed: &Bed, kind: MediaKind, size: usize, dc: Option<i32>) -> File {
    let media = NewMedia {
        kind,
        size,
        seed: 11,
        dc,
        ..Default::default()
    };
    let text = format!("{kind:?} {size} {dc:?}");
    let message = NewMessage {
        account: Some(bed.me),
        peer: Some(Peer::User(bed.friend)),
        text: text.clone(),
        media: Some(media),
        ..Default::default()
    };
    let placed = bed.dc.push_message(message).await.unwrap().remove(0);
    let (_, message) = bed.feed.message(&text).await;
    let stored = bed.dc.messages(bed.me, None).await.unwrap();
    let stored = stored.iter().find(|stored| stored.id == placed.id).unwrap();
    File {
        locator: message.attachments[0].locator.clone(),
        bytes: bed.dc.file(stored.file.unwrap()).await.unwrap().to_vec(),
        message: placed.id,
    }
}

async fn read(
    linked: &Linked,
    file: &File,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, hub_actors::domain::SendError> {
    let request = MediaRequest {
        locator: file.locator.clone(),
        offset,
        length,
    };
    let pieces: Vec<_> = linked.link.media(&request).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn every_part_of_a_file_can_be_read() {
    let bed = Bed::new().await;
    let linked = bed.open().await;
    for (kind, size) in [
        (MediaKind::Photo, 300_000),
        (MediaKind::Document, 2_500_001),
        (MediaKind::Voice, 100),
    ] {
        let file = file(&bed, kind, size, None).await;
        let all = u64::try_from(size).unwrap();
        assert!(read(&linked, &file, 0, all).await.unwrap() == file.bytes, "{kind:?}");
        for (offset, length) in [
            (0, 1),
            (1, 10),
            (all - 1, 1),
            (all - 1, 500),
            (all, 5),
            (all / 3, all / 2),
            (90, 0),
        ] {
            let start = usize::try_from(offset).unwrap();
            let end = usize::try_from((offset + length).min(all)).unwrap();
            let part = read(&linked, &file, offset, length).await.unwrap();
            assert!(part == file.bytes[start..end], "{kind:?} {offset} {length}");
        }
    }
}

#[tokio::test]
async fn a_file_on_another_data_centre_is_fetched_there() {
    let bed = Bed::new().await;
    let linked = bed.open().await;
    let file = file(&bed, MediaKind::Document, 600_000, Some(4)).await;
    assert!(read(&linked, &file, 0, 600_000).await.unwrap() == file.bytes);
    assert!(read(&linked, &file, 500_000, 100).await.unwrap() == file.bytes[500_000..500_100]);
    assert_eq!(bed.dc.count("auth.importAuthorization").await, 1);
    assert!(!linked.has_ended());
    bed.push("still live").await;
    bed.feed.message("still live").await;
}

#[tokio::test]
async fn an_expired_reference_is_renewed() {
    let bed = Bed::new().await;
    let linked = bed.open().await;
    let file = file(&bed, MediaKind::Photo, 300_000, None).await;
    bed.dc.expire_file_references().await;
    assert!(read(&linked, &file, 0, 300_000).await.unwrap() == file.bytes);
    assert_eq!(bed.dc.count("messages.getMessages").await, 1);
    bed.dc.expire_file_references().await;
    let delete = telegram_dc::Delete {
        account: Some(bed.me),
        peer: Peer::User(bed.friend),
        ids: vec![file.message],
        lost: false,
    };
    bed.dc.delete(delete).await.unwrap();
    let error = read(&linked, &file, 0, 10).await.unwrap_err();
    assert_eq!(error.failure, SendFailure::Refused);
}

#[tokio::test]
async fn broken_connections_and_wrong_places_do_no_harm() {
    let bed = Bed::new().await;
    let linked = bed.open().await;
    let file = file(&bed, MediaKind::Document, 1_000_000, None).await;
    let script = FaultScript {
        skip: 2,
        ..FaultScript::next("upload.getFile", Fault::Close)
    };
    bed.dc.script(script).await.unwrap();
    assert!(read(&linked, &file, 0, 1_000_000).await.unwrap() == file.bytes);
    for locator in ["", "{}", "null"] {
        let request = MediaRequest {
            locator: locator.into(),
            offset: 0,
            length: 10,
        };
        let error = linked.link.media(&request).await.err().unwrap();
        assert_eq!(error.failure, SendFailure::Refused);
    }
}
