//! The caller's stream of events, for programs that poll instead of listening on a socket.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::Seq;
use hub_actors::domain::StreamPosition;
use hub_actors::ports::{Store as _, StoreError, StreamState};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::input::Query;
use super::{ApiError, AppState, Identity};
use crate::views::{self, EventView};

/// Events in one answer at most.
const MAX_LIMIT: i64 = 1_000;
/// Events in one answer where the request does not say.
const USUAL_LIMIT: i64 = 100;

/// Registers the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/events").route(web::get().to(list)));
}

/// A part of the stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventList<'a> {
    /// In order, without a gap, beginning right after `after`.
    events: Vec<EventView<'a>>,
    epoch: &'a str,
    /// The number of the stream's last event.
    #[schema(value_type = i64)]
    seq: Seq,
    /// Ask for this next, as `after`.
    next: String,
    /// Whether there is more already.
    has_more: bool,
}

/// Lists events of the caller's stream after a position.
#[utoipa::path(
    get, path = "/api/events", tag = "events",
    params(
        ("after" = Option<String>, Query, description = "`<seq>` or `<epoch>:<seq>`; default 0, the beginning"),
        ("limit" = Option<i64>, Query, description = "1 to 1000; default 100"),
    ),
    responses(
        (status = 200, description = "A part of the stream", body = EventList),
        (status = 400, description = "A parameter is not what it must be"),
        (status = 401, description = "Not signed in"),
        (status = 410, description = "The stream does not reach back to this position, or it is of another epoch"),
    )
)]
pub(super) async fn list(
    identity: Identity,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = Query::of(&request);
    let after = after(query.text("after").unwrap_or_default())?;
    let limit = query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(USUAL_LIMIT);
    let epoch = state.store.epoch();
    let is_other_epoch = after.epoch.is_some_and(|asked| asked != epoch);
    let limit = if is_other_epoch {
        1
    } else {
        usize::try_from(limit).unwrap_or(1)
    };
    let page = match state.store.stream_page(identity.user_id, after.seq, limit).await {
        // The reader has to go round it.
        Err(StoreError::Failed(reason)) => {
            tracing::error!(user_id = %identity.user_id, %reason, "an event cannot be read");
            let bounds = state.store.stream_page(identity.user_id, after.seq, 0).await?;
            return Err(gone(epoch, bounds.state));
        }
        page => page?,
    };
    if is_other_epoch || !page.state.covers(after.seq) {
        return Err(gone(epoch, page.state));
    }
    let next = page.events.last().map_or(after.seq, |event| event.seq);
    Ok(HttpResponse::Ok().json(EventList {
        epoch,
        seq: page.state.last,
        next: format!("{epoch}:{next}"),
        has_more: next < page.state.last,
        events: page
            .events
            .iter()
            .map(|event| views::event_json(epoch, event))
            .collect(),
    }))
}

#[derive(Debug, PartialEq)]
struct After {
    epoch: Option<String>,
    seq: Seq,
}

fn after(text: &str) -> Result<After, ApiError> {
    let wrong = || ApiError::bad_request("after must be the number of an event or <epoch>:<seq>, for example k3x9:42");
    if text.is_empty() {
        return Ok(After {
            epoch: None,
            seq: Seq(0),
        });
    }
    if text.contains(':') {
        let position: StreamPosition = text.parse().map_err(|_| wrong())?;
        return Ok(After {
            epoch: Some(position.epoch),
            seq: position.seq,
        });
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let seq = text.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
    Ok(After {
        epoch: None,
        seq: Seq(seq),
    })
}

fn gone(epoch: &str, state: StreamState) -> ApiError {
    let position = format!("{epoch}:{}", state.last);
    let details = json!({"position": position, "epoch": epoch, "seq": state.last, "trimmed": state.trimmed});
    ApiError::new(
        StatusCode::GONE,
        "STREAM_POSITION_GONE",
        "The stream does not hold every event after this position. Read /api/conversations and the messages you need, \
         then go on with `after` set to the `position` of that answer.",
    )
    .with_details(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_number_or_an_epoch_and_a_number() {
        assert_eq!(
            after("").ok(),
            Some(After {
                epoch: None,
                seq: Seq(0)
            })
        );
        assert_eq!(
            after("42").ok(),
            Some(After {
                epoch: None,
                seq: Seq(42)
            })
        );
        let full = After {
            epoch: Some("k3x9".to_owned()),
            seq: Seq(42),
        };
        assert_eq!(after("k3x9:42").ok(), Some(full));
        for text in [
            "-1",
            "x",
            "1.5",
            "+1",
            ":1",
            "k3x9:",
            "k3x9:-1",
            "a:b:c",
            "99999999999999999999",
            "k-3:1",
        ] {
            assert!(after(text).is_err(), "{text}");
        }
    }
}
