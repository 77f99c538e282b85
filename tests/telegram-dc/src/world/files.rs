//! Uploaded and made-up files.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use grammers_tl_types::{self as tl, enums};

use super::World;
use crate::spec::{MediaKind, NewMedia};
use crate::tl::{Refusal, Rpc, now, required};

/// A stored file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub kind: MediaKind,
    pub mime: String,
    pub name: Option<String>,
    pub bytes: Arc<[u8]>,
    pub thumb: Option<Arc<[u8]>>,
    pub width: i32,
    pub height: i32,
    pub duration: i32,
    pub dc: i32,
    pub date: i32,
    /// Counts up when its file references are made to expire.
    pub edition: i64,
}

/// Parts of a file on its way in.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    pub parts: BTreeMap<i32, Vec<u8>>,
    pub bytes: usize,
}

/// `size` bytes that look random and follow from `seed` alone.
pub(crate) fn made_up_bytes(size: usize, seed: u64) -> Vec<u8> {
    // splitmix64
    let mut state = seed;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(size);
    out
}

impl World {
    /// Stores a file described by a test.
    pub fn add_media(&mut self, media: &NewMedia) -> Rpc<i64> {
        let bytes = match &media.base64 {
            Some(text) => base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| Refusal::new(400, format!("base64: {error}")))?,
            None => made_up_bytes(media.size.min(self.config.files_cap), media.seed),
        };
        let mime = match media.kind {
            MediaKind::Photo => "image/jpeg",
            MediaKind::Document => "application/octet-stream",
            MediaKind::Voice => "audio/ogg",
            MediaKind::Video => "video/mp4",
        };
        let pictured = matches!(media.kind, MediaKind::Photo | MediaKind::Video);
        let home = self.home_dc();
        self.add_file(File {
            kind: media.kind,
            mime: media.mime.clone().unwrap_or_else(|| mime.to_owned()),
            name: media.name.clone(),
            bytes: bytes.into(),
            thumb: pictured.then(|| made_up_bytes(800, media.seed.wrapping_add(1)).into()),
            width: media.width.unwrap_or(if pictured { 1280 } else { 0 }),
            height: media.height.unwrap_or(if pictured { 720 } else { 0 }),
            duration: media.duration.unwrap_or(0),
            dc: media.dc.unwrap_or(home),
            date: now(),
            edition: 0,
        })
    }

    pub fn add_file(&mut self, file: File) -> Rpc<i64> {
        if self.files_bytes + file.bytes.len() > self.config.files_cap {
            return Err(Refusal::new(400, "FILES_CAP_REACHED"));
        }
        self.files_bytes += file.bytes.len();
        let id = 5_000_000 + self.number();
        self.files.insert(id, file);
        Ok(id)
    }

    pub fn file_hash(&self, id: i64) -> i64 {
        self.stable(&[400, id])
    }

    pub fn file_reference(&self, id: i64, edition: i64) -> Vec<u8> {
        self.stable(&[500, id, edition]).to_be_bytes().to_vec()
    }

    /// File references given out so far stop working.
    pub fn expire_file_references(&mut self) {
        for file in self.files.values_mut() {
            file.edition += 1;
        }
    }

    pub fn render_photo(&self, id: i64, file: &File) -> Rpc<enums::Photo> {
        let mut sizes: Vec<enums::PhotoSize> = Vec::new();
        let size = |kind: &str, w, h, bytes: &Arc<[u8]>| -> enums::PhotoSize {
            let size = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
            tl::types::PhotoSize {
                r#type: kind.to_owned(),
                w,
                h,
                size,
            }
            .into()
        };
        if let Some(thumb) = &file.thumb {
            let bytes = thumb[..thumb.len().min(64)].to_vec();
            sizes.push(
                tl::types::PhotoStrippedSize {
                    r#type: "i".into(),
                    bytes,
                }
                .into(),
            );
            sizes.push(size("m", file.width / 4, file.height / 4, thumb));
        }
        sizes.push(size("x", file.width, file.height, &file.bytes));
        let reference = self.file_reference(id, file.edition);
        let photo = required!(tl::types::Photo;
            0_i32, id, self.file_hash(id), reference, file.date, sizes, file.dc)?;
        Ok(photo.into())
    }

    pub fn render_document(&self, id: i64, file: &File) -> Rpc<enums::Document> {
        let mut attributes: Vec<enums::DocumentAttribute> = Vec::new();
        if let Some(name) = &file.name {
            attributes.push(
                tl::types::DocumentAttributeFilename {
                    file_name: name.clone(),
                }
                .into(),
            );
        }
        match file.kind {
            MediaKind::Voice => {
                let mut audio = required!(tl::types::DocumentAttributeAudio; 0_i32, file.duration)?;
                audio.voice = true;
                audio.waveform = Some(vec![0x55; 63]);
                attributes.push(audio.into());
            }
            MediaKind::Video => {
                let video = required!(tl::types::DocumentAttributeVideo;
                    0_i32, f64::from(file.duration), file.width, file.height)?;
                attributes.push(video.into());
            }
            _ if file.width > 0 => {
                let (w, h) = (file.width, file.height);
                attributes.push(tl::types::DocumentAttributeImageSize { w, h }.into());
            }
            _ => {}
        }
        let size = i64::try_from(file.bytes.len()).unwrap_or(i64::MAX);
        let reference = self.file_reference(id, file.edition);
        let mut document = required!(tl::types::Document;
            0_i32, id, self.file_hash(id), reference, file.date, file.mime, size, file.dc,
            attributes)?;
        if let Some(thumb) = &file.thumb {
            let size = i32::try_from(thumb.len()).unwrap_or(i32::MAX);
            let (w, h) = (file.width / 4, file.height / 4);
            document.thumbs = Some(vec![
                tl::types::PhotoSize {
                    r#type: "m".into(),
                    w,
                    h,
                    size,
                }
                .into(),
            ]);
        }
        Ok(document.into())
    }

    pub fn render_media(&self, id: i64) -> Rpc<enums::MessageMedia> {
        let Some(file) = self.files.get(&id) else {
            return Ok(enums::MessageMedia::Empty);
        };
        if file.kind == MediaKind::Photo {
            let mut media = required!(tl::types::MessageMediaPhoto; 0_i32)?;
            media.photo = Some(self.render_photo(id, file)?);
            return Ok(media.into());
        }
        let mut media = required!(tl::types::MessageMediaDocument; 0_i32)?;
        media.document = Some(self.render_document(id, file)?);
        media.voice = file.kind == MediaKind::Voice;
        media.video = file.kind == MediaKind::Video;
        Ok(media.into())
    }
}
