//! Files: parts in, parts out.

use grammers_tl_types::{self as tl, enums, functions as f};

use super::Cx;
use crate::spec::MediaKind;
use crate::tl::{Refusal, Rpc, bad, now};
use crate::world::{File, Upload};

/// Largest part of an upload.
const PART: usize = 512 << 10;
/// Parts of one upload.
const PARTS: i32 = 8000;
/// Uploads that wait to be used.
const UPLOADS: usize = 1000;
/// Largest piece of a download, and the alignment of its offset and limit.
const CHUNK: i64 = 1 << 20;
const ALIGN: i64 = 4096;
const ALIGN_PRECISE: i64 = 1024;

pub fn save_file_part(cx: &mut Cx<'_>, call: f::upload::SaveFilePart) -> Rpc<bool> {
    save(cx, call.file_id, call.file_part, call.bytes)
}

pub fn save_big_file_part(cx: &mut Cx<'_>, call: f::upload::SaveBigFilePart) -> Rpc<bool> {
    save(cx, call.file_id, call.file_part, call.bytes)
}

fn save(cx: &mut Cx<'_>, file_id: i64, part: i32, bytes: Vec<u8>) -> Rpc<bool> {
    if !(0..PARTS).contains(&part) {
        return bad("FILE_PART_INVALID");
    }
    if bytes.is_empty() {
        return bad("FILE_PART_EMPTY");
    }
    if bytes.len() > PART {
        return bad("FILE_PART_TOO_BIG");
    }
    let world = &mut *cx.world;
    let waiting: usize = world.uploads.values().map(|upload| upload.bytes).sum();
    if world.uploads.len() >= UPLOADS || world.files_bytes + waiting + bytes.len() > world.config.files_cap {
        return Err(Refusal::new(500, "STORAGE_FULL"));
    }
    let upload: &mut Upload = world.uploads.entry((cx.me, file_id)).or_default();
    upload.bytes += bytes.len();
    if let Some(before) = upload.parts.insert(part, bytes) {
        upload.bytes -= before.len();
    }
    Ok(true)
}

/// Puts the parts of an upload together.
fn finish(cx: &mut Cx<'_>, file: &enums::InputFile) -> Rpc<(Vec<u8>, String)> {
    let (id, parts, name) = match file {
        enums::InputFile::File(file) => (file.id, file.parts, &file.name),
        enums::InputFile::Big(file) => (file.id, file.parts, &file.name),
        enums::InputFile::StoryDocument(_) => return bad("FILE_ID_INVALID"),
    };
    let Some(upload) = cx.world.uploads.get(&(cx.me, id)) else {
        return bad("FILE_ID_INVALID");
    };
    for part in 0..parts.min(PARTS) {
        if !upload.parts.contains_key(&part) {
            return bad(&format!("FILE_PART_{part}_MISSING"));
        }
    }
    if usize::try_from(parts) != Ok(upload.parts.len()) {
        return bad("FILE_PARTS_INVALID");
    }
    let bytes = upload.parts.values().flatten().copied().collect();
    let name = name.clone();
    cx.world.uploads.remove(&(cx.me, id));
    Ok((bytes, name))
}

/// Durations come as floating point numbers.
#[expect(clippy::cast_possible_truncation, reason = "the value is clamped before")]
fn whole_seconds(duration: f64) -> i32 {
    duration.clamp(0.0, 86_400.0) as i32
}

/// The file an input medium stands for; an upload is stored now.
pub fn take(cx: &mut Cx<'_>, media: &enums::InputMedia) -> Rpc<i64> {
    let dc = cx.dc;
    let blank = |kind, mime: &str, name, bytes: Vec<u8>| File {
        kind,
        mime: mime.to_owned(),
        name,
        bytes: bytes.into(),
        thumb: None,
        width: 0,
        height: 0,
        duration: 0,
        dc,
        date: now(),
        edition: 0,
    };
    match media {
        enums::InputMedia::UploadedPhoto(photo) => {
            let (bytes, _) = finish(cx, &photo.file)?;
            let mut file = blank(MediaKind::Photo, "image/jpeg", None, bytes);
            (file.width, file.height) = (1280, 720);
            cx.world.add_file(file)
        }
        enums::InputMedia::UploadedDocument(document) => {
            let (bytes, name) = finish(cx, &document.file)?;
            let mut file = blank(MediaKind::Document, &document.mime_type, Some(name), bytes);
            if let Some(thumb) = &document.thumb {
                file.thumb = Some(finish(cx, thumb)?.0.into());
            }
            for attribute in &document.attributes {
                match attribute {
                    enums::DocumentAttribute::Audio(audio) => {
                        file.duration = audio.duration;
                        if audio.voice {
                            file.kind = MediaKind::Voice;
                        }
                    }
                    enums::DocumentAttribute::Video(video) => {
                        file.kind = MediaKind::Video;
                        file.duration = whole_seconds(video.duration);
                        (file.width, file.height) = (video.w, video.h);
                    }
                    enums::DocumentAttribute::ImageSize(size) => {
                        (file.width, file.height) = (size.w, size.h);
                    }
                    enums::DocumentAttribute::Filename(name) => {
                        file.name = Some(name.file_name.clone());
                    }
                    _ => {}
                }
            }
            cx.world.add_file(file)
        }
        enums::InputMedia::Photo(photo) => match &photo.id {
            enums::InputPhoto::Photo(p) => known(cx, p.id, p.access_hash, &p.file_reference),
            enums::InputPhoto::Empty => bad("MEDIA_INVALID"),
        },
        enums::InputMedia::Document(document) => match &document.id {
            enums::InputDocument::Document(d) => known(cx, d.id, d.access_hash, &d.file_reference),
            enums::InputDocument::Empty => bad("MEDIA_INVALID"),
        },
        _ => bad("MEDIA_INVALID"),
    }
}

/// Checks that the caller may use a stored file.
fn known(cx: &Cx<'_>, id: i64, hash: i64, reference: &[u8]) -> Rpc<i64> {
    let Some(file) = cx.world.files.get(&id) else {
        return bad("FILE_ID_INVALID");
    };
    if hash != cx.world.file_hash(id) {
        return bad("FILE_ID_INVALID");
    }
    if reference != cx.world.file_reference(id, file.edition) {
        return bad("FILE_REFERENCE_EXPIRED");
    }
    Ok(id)
}

pub fn upload_media(cx: &mut Cx<'_>, call: f::messages::UploadMedia) -> Rpc<enums::MessageMedia> {
    cx.peer(&call.peer)?;
    let id = take(cx, &call.media)?;
    cx.world.render_media(id)
}

pub fn get_file(cx: &mut Cx<'_>, call: f::upload::GetFile) -> Rpc<enums::upload::File> {
    let (id, thumb) = match &call.location {
        enums::InputFileLocation::InputPhotoFileLocation(at) => {
            (known(cx, at.id, at.access_hash, &at.file_reference)?, &at.thumb_size)
        }
        enums::InputFileLocation::InputDocumentFileLocation(at) => {
            (known(cx, at.id, at.access_hash, &at.file_reference)?, &at.thumb_size)
        }
        _ => return bad("LOCATION_INVALID"),
    };
    let Some(file) = cx.world.files.get(&id) else {
        return bad("LOCATION_INVALID");
    };
    if file.dc != cx.dc {
        return Err(Refusal::new(303, format!("FILE_MIGRATE_{}", file.dc)));
    }
    let (offset, limit) = (call.offset, i64::from(call.limit));
    let align = if call.precise { ALIGN_PRECISE } else { ALIGN };
    if limit <= 0 || limit > CHUNK || limit % align != 0 {
        return bad("LIMIT_INVALID");
    }
    // A piece may not cross a whole mebibyte.
    if offset < 0 || offset % align != 0 || offset / CHUNK != offset.saturating_add(limit - 1) / CHUNK {
        return bad("OFFSET_INVALID");
    }
    let bytes = match (thumb.as_str(), &file.thumb) {
        ("m" | "i" | "s", Some(thumb)) => thumb,
        ("m" | "i" | "s", None) => return bad("LOCATION_INVALID"),
        _ => &file.bytes,
    };
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = start
        .saturating_add(usize::try_from(limit).unwrap_or(0))
        .min(bytes.len());
    let kind = match file.kind {
        MediaKind::Photo => enums::storage::FileType::FileJpeg,
        _ => enums::storage::FileType::FilePartial,
    };
    let bytes = bytes[start..end].to_vec();
    Ok(tl::types::upload::File {
        r#type: kind,
        mtime: file.date,
        bytes,
    }
    .into())
}
