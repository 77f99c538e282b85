//! The open link of one account.

use std::sync::Arc;

use hub_actors::ports::{LinkEnd, LinkStart, OpenLink};

use super::Parts;
use super::client::Connected;
use super::session::HubSession;

pub(super) async fn open(parts: Arc<Parts>, start: LinkStart) -> Result<OpenLink, LinkEnd> {
    let session = HubSession::load(&start.memory, &parts.config.centers).map_err(|error| LinkEnd::NeedsLogin {
        reason: error.to_string(),
    })?;
    let session = Arc::new(session);
    session.keep_in(Arc::clone(&start.feed));
    let opened = Connected::open(&parts.config, Arc::clone(&session));
    let state = opened
        .connected
        .call(&grammers_tl_types::functions::updates::GetState {})
        .await;
    drop(state.map_err(|error| error.link_end())?);
    Err(LinkEnd::Lost {
        reason: String::new(),
        not_before: None,
    })
}
