//! Thumbnails that come with a message: as they are, or stripped of the part that all of them share.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grammers_tl_types::enums::PhotoSize;

/// Largest thumbnail taken, in bytes.
const MAX_BYTES: usize = 20 * 1024;
/// The JPEG header that stripped thumbnails lack, in base64: quantisation and Huffman tables, and an empty size.
/// See <https://core.telegram.org/api/files#stripped-thumbnails>.
const HEADER: &str = "\
     /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71\
     ////m8H////6/+b9//j/2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4\
     +Pj4+Pj4+Pj/wAARCAAAAAADASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUF\
     BAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVW\
     V1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi\
     4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAEC\
     AxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVm\
     Z2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq\
     8vP09fb3+Pn6/9oADAMBAAIRAxEAPwA=";
/// Where the header keeps height and width, each in two bytes of which the second is given.
const HEIGHT: usize = 164;
const WIDTH: usize = 166;
const END: [u8; 2] = [0xff, 0xd9];

/// The best picture among these sizes that is already here.
pub(super) fn pick(sizes: &[PhotoSize]) -> Option<Vec<u8>> {
    let cached = sizes.iter().find_map(|size| match size {
        PhotoSize::PhotoCachedSize(size) if is_small_jpeg(&size.bytes) => Some(size.bytes.clone()),
        _ => None,
    });
    let stripped = || {
        sizes.iter().find_map(|size| match size {
            PhotoSize::PhotoStrippedSize(size) => expand(&size.bytes),
            _ => None,
        })
    };
    cached.or_else(stripped)
}

fn is_small_jpeg(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_BYTES && bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// A whole JPEG of a stripped one: a version byte (1), height, width, and the picture itself.
fn expand(stripped: &[u8]) -> Option<Vec<u8>> {
    let (&[1, height, width], picture) = stripped.split_first_chunk()? else {
        return None;
    };
    if picture.is_empty() || picture.len() > MAX_BYTES {
        return None;
    }
    let mut jpeg = STANDARD.decode(HEADER).ok()?;
    *jpeg.get_mut(HEIGHT)? = height;
    *jpeg.get_mut(WIDTH)? = width;
    jpeg.extend_from_slice(picture);
    jpeg.extend_from_slice(&END);
    Some(jpeg)
}

#[cfg(test)]
mod tests {
    use grammers_tl_types as tl;

    use super::*;

    fn stripped(bytes: &[u8]) -> PhotoSize {
        tl::types::PhotoStrippedSize {
            r#type: "i".to_owned(),
            bytes: bytes.to_vec(),
        }
        .into()
    }

    fn cached(bytes: Vec<u8>) -> PhotoSize {
        tl::types::PhotoCachedSize {
            r#type: "s".to_owned(),
            w: 90,
            h: 60,
            bytes,
        }
        .into()
    }

    #[test]
    fn a_stripped_thumbnail_gets_its_header_back() {
        let jpeg = pick(&[stripped(&[1, 30, 40, 9, 8, 7])]).expect("a picture");
        assert_eq!(jpeg.len(), 623 + 3 + 2);
        assert_eq!(jpeg[..4], [0xff, 0xd8, 0xff, 0xe0]);
        // The frame header (T.81, B.2.2): marker, length 17, 8 bits, height, width, three components.
        assert_eq!(jpeg[158..168], [0xff, 0xc0, 0, 17, 8, 0, 30, 0, 40, 3]);
        assert_eq!(jpeg[623..], [9, 8, 7, 0xff, 0xd9]);
    }

    #[test]
    fn what_is_no_thumbnail_is_left_out() {
        for bytes in [&[][..], &[1], &[1, 30, 40], &[2, 30, 40, 9], &[0; 64]] {
            assert_eq!(pick(&[stripped(bytes)]), None, "{bytes:?}");
        }
        assert_eq!(pick(&[cached(vec![0; 10])]), None);
        let mut large = vec![0xff, 0xd8, 0xff];
        large.resize(MAX_BYTES + 1, 0);
        assert_eq!(pick(&[cached(large)]), None);
    }

    #[test]
    fn a_cached_one_is_better() {
        let small = vec![0xff, 0xd8, 0xff, 1];
        assert_eq!(pick(&[stripped(&[1, 30, 40, 9]), cached(small.clone())]), Some(small));
    }
}
