//! The files of messages: fetched from their platform when somebody looks, part by part, and kept sealed for the next time.

mod download;
mod range;
mod turns;
mod viewer;

use actix_web::body::{BodyStream, SizedStream};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    self, Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue, HeaderValue,
};
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::domain::Attachment;

pub use turns::Turns;
pub(super) use viewer::{cookie, no_cookie};

use super::{ApiError, AppState};
use crate::views::AttachmentId;
use download::Source;
use range::{Span, Wanted, wanted};
use viewer::Viewer;

/// Larger files are not served.
const MAX_BYTES: u64 = 1 << 30;

/// Registers the routes.
pub fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/api/media/{attachment_id}").route(web::get().to(media)));
}

/// A file of a message. The access token comes in the header or, for what a page shows by itself, in the cookie that
/// signing in sets for this path.
#[utoipa::path(
    get, path = "/api/media/{attachment_id}", tag = "messages",
    params(
        ("attachment_id" = String, Path, description = "`<message id>.<place>`, as in `attachments` of the message"),
        ("Range" = Option<String>, Header, description = "One range of bytes"),
    ),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 206, description = "The part that was asked for", content_type = "application/octet-stream"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such file, or not the caller's, or its platform has it no more"),
        (status = 413, description = "The file is larger than the hub serves: 1 GiB"),
        (status = 416, description = "The part lies outside the file"),
        (status = 503, description = "The account is not connected at the moment"),
    )
)]
pub(super) async fn media(
    viewer: Viewer,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id: AttachmentId = path.parse().map_err(|()| ApiError::not_routed())?;
    let none = || ApiError::not_found("MEDIA_NOT_FOUND", "There is no such file.");
    let message = state
        .store
        .message(viewer.user_id, id.message_id)
        .await?
        .ok_or_else(none)?;
    let conversation = state
        .store
        .conversation(viewer.user_id, message.conversation_id)
        .await?;
    let account_id = conversation.ok_or_else(none)?.account_id;
    let attachment = message.attachments.into_iter().nth(id.place).ok_or_else(none)?;
    let size = attachment.size.filter(|size| *size > 0);
    if size.is_some_and(|size| size > MAX_BYTES) {
        let text = "This file is larger than 1 GiB: open it in the platform's own app.";
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", text));
    }
    let version = format!("\"{id}\"");
    if is_known(&request, &version) {
        return Ok(HttpResponse::NotModified()
            .insert_header((header::ETAG, version))
            .finish());
    }
    let (content_type, is_shown) = content_type(&attachment);
    let source = Source::new(&state, viewer.user_id, account_id, id, attachment.locator.clone(), size);
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::ETAG, version.clone()))
        // A file of a message never changes; a shared computer's proxy must not keep it.
        .insert_header((header::CACHE_CONTROL, "private, max-age=86400, immutable"))
        .insert_header(disposition(&attachment, is_shown));
    let Some(size) = size else {
        let body = source.all(MAX_BYTES).await?;
        return Ok(response.body(BodyStream::new(body)));
    };
    response.insert_header((header::ACCEPT_RANGES, "bytes"));
    let span = match wanted(request.headers(), size, &version) {
        Wanted::All => Span { start: 0, end: size },
        Wanted::Part(span) => {
            let text = format!("bytes {}-{}/{size}", span.start, span.end - 1);
            response.status(StatusCode::PARTIAL_CONTENT);
            response.insert_header((header::CONTENT_RANGE, text));
            span
        }
        Wanted::Unsatisfiable => {
            let text = format!("bytes */{size}");
            return Ok(HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, text))
                .finish());
        }
    };
    let body = source.span(span.start, span.end).await?;
    Ok(response.body(SizedStream::new(span.end - span.start, body)))
}

fn is_known(request: &HttpRequest, version: &str) -> bool {
    let known = request.headers().get(header::IF_NONE_MATCH);
    let known = known.and_then(|known| known.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|one| one.trim() == version))
}

/// The media type, and whether a browser may show the file: only what cannot run anything, whatever its sender says it is.
fn content_type(attachment: &Attachment) -> (HeaderValue, bool) {
    let mime = attachment.mime.as_deref().unwrap_or_default();
    let mime = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let harmless = [
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "video/mp4",
        "video/webm",
        "audio/mpeg",
        "audio/ogg",
        "audio/mp4",
        "audio/aac",
        "audio/wav",
        "audio/webm",
        "audio/flac",
    ];
    match harmless.into_iter().find(|harmless| *harmless == mime) {
        Some(mime) => (HeaderValue::from_static(mime), true),
        None => (HeaderValue::from_static("application/octet-stream"), false),
    }
}

fn disposition(attachment: &Attachment, is_shown: bool) -> ContentDisposition {
    let name = attachment.name.as_deref().unwrap_or_default();
    // No path, and nothing that could end the header.
    let name: String = name
        .chars()
        .filter(|one| !one.is_control() && !r#"/\:*?"<>|"#.contains(*one))
        .take(150)
        .collect();
    let parameters = (!name.is_empty()).then(|| {
        DispositionParam::FilenameExt(ExtendedValue {
            charset: Charset::Ext("UTF-8".to_owned()),
            language_tag: None,
            value: name.into_bytes(),
        })
    });
    ContentDisposition {
        disposition: if is_shown {
            DispositionType::Inline
        } else {
            DispositionType::Attachment
        },
        parameters: parameters.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mime: &str, name: &str) -> Attachment {
        Attachment {
            mime: Some(mime.to_owned()),
            name: Some(name.to_owned()),
            ..Attachment::default()
        }
    }

    #[test]
    fn only_what_cannot_run_is_shown() {
        for (mime, shown) in [
            ("image/png", true),
            ("IMAGE/JPEG; x=1", true),
            ("audio/ogg", true),
            ("image/svg+xml", false),
            ("text/html", false),
            ("application/pdf", false),
            ("application/xhtml+xml", false),
            ("image/png\r\nx: y", false),
            ("", false),
        ] {
            let (content_type, is_shown) = content_type(&file(mime, ""));
            assert_eq!(is_shown, shown, "{mime}");
            assert!(shown || content_type == "application/octet-stream", "{mime}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        let header = disposition(&file("", "../\"a\r\nb;\u{e9}.html"), false).to_string();
        assert_eq!(header, "attachment; filename*=UTF-8''..ab%3B%C3%A9.html");
        assert_eq!(disposition(&file("", ""), true).to_string(), "inline");
    }
}
