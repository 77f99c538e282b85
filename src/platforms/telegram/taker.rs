//! Hands what was heard to the hub, one batch after the other, while the reader reads on.

use std::collections::HashMap;
use std::sync::Arc;

use hub_actors::ExternalId;
use hub_actors::domain::{InboundEvent, Remember};
use hub_actors::ports::{FeedError, LinkBatch, LinkFeed};
use tokio::sync::mpsc;

use super::heard::{self, Heard};
use super::map::Mapper;
use super::peers;

/// Batches that may wait. While more would, the reader waits, and Telegram's pushes wait with grammers.
pub(super) const WAITING: usize = 64;
/// Batches that are handed over together.
const TOGETHER: usize = 32;

/// What the reader hands over at once.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) heard: Vec<Heard>,
    pub(super) remember: Remember,
}

/// Runs until the hub does not take any more.
pub(super) async fn run(mapper: Arc<Mapper>, feed: Arc<dyn LinkFeed>, mut batches: mpsc::Receiver<Batch>) -> FeedError {
    let mut waiting = Vec::with_capacity(TOGETHER);
    loop {
        if batches.recv_many(&mut waiting, TOGETHER).await == 0 {
            // The reader has ended and says why.
            return std::future::pending().await;
        }
        let mut together = LinkBatch::default();
        for batch in waiting.drain(..) {
            for heard in batch.heard {
                match heard {
                    Heard::Event(event) => together.events.push(*event),
                    Heard::Gone(messages) => {
                        let gone = gone(&mapper, feed.as_ref(), &together.events, &messages).await;
                        together.events.extend(gone);
                    }
                }
            }
            together.remember.extend(batch.remember);
        }
        together.remember = newest(together.remember);
        if let Err(error) = feed.take(together).await {
            return error;
        }
    }
}

/// Finds the chats of messages that are gone: among what the hub knows, and among what it is about to be told.
async fn gone(mapper: &Mapper, feed: &dyn LinkFeed, told: &[InboundEvent], messages: &[i32]) -> Vec<InboundEvent> {
    let ids: Vec<ExternalId> = messages.iter().map(|id| id.to_string().into()).collect();
    let mut places: Vec<(ExternalId, ExternalId)> = feed.chats_of(&ids).await;
    let untold = told.iter().filter_map(|event| {
        let message = event.kind.message()?;
        ids.contains(message)
            .then(|| (event.conversation.clone(), message.clone()))
    });
    places.extend(untold);
    places.sort();
    places.dedup();
    let events = places.into_iter().filter_map(|(chat, message)| {
        let dialog = peers::parse(&chat)?;
        let message = message.as_str().parse().ok()?;
        // Channels number their messages themselves: the same number there is another message.
        (!peers::is_channel(dialog)).then(|| heard::gone(mapper, dialog, message))
    });
    events.collect()
}

/// The last word on each name.
fn newest(changes: Remember) -> Remember {
    let mut newest = HashMap::with_capacity(changes.len());
    for (name, value) in changes {
        newest.insert(name, value);
    }
    newest.into_iter().collect()
}
