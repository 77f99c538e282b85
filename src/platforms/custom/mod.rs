//! What lives here: the custom channel, by which any system becomes a platform: signed JSON in, signed JSON out.
//! Who calls it: `platforms::adapters`; `http` for its secrets; `demo`, whose correspondent speaks the other side.
//! What it may not know: storage, routes, other platforms. docs/CUSTOM-CHANNEL.md is the reference of what it speaks.

mod fields;
mod link;
mod map;
mod send;
pub mod signature;

use async_trait::async_trait;
use hub_actors::Clock;
use hub_actors::domain::{Account, InboundEvent, Receipt, SendError};
use hub_actors::ports::{Adapter, Capabilities, Delivery, Outbound, ReceiveError, SendKey, TypingNotice};
use reqwest::Client;

pub use link::{Link, LinkError, ROTATION_OVERLAP};
pub use map::MAX_EVENTS;
pub use signature::{InvalidSecret, Secret};

use super::address::Guard;

/// The custom channel.
pub struct Custom {
    client: Client,
    guard: Guard,
    clock: Clock,
}

impl Custom {
    /// The channel over a guarded client. The clock stamps what is sent and ends secrets.
    pub fn new(client: Client, guard: Guard, clock: Clock) -> Self {
        Self { client, guard, clock }
    }
}

#[async_trait]
impl Adapter for Custom {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send_key: SendKey::Forever,
            edit: true,
            delete: true,
            reactions: true,
            read: true,
            typing: true,
            // Four bytes a character at most: what goes out is never longer than what may come in.
            max_text: map::MAX_TEXT_BYTES / 4,
        }
    }

    fn receive(&self, account: &Account, delivery: &Delivery) -> Result<Vec<InboundEvent>, ReceiveError> {
        let secrets = Link::secrets(&account.credentials, delivery.received_at);
        let signed_at = signature::verify(delivery, &secrets)?;
        fail::fail_point!("webhook.verified");
        let defaults = map::Defaults {
            own_id: &account.external_id,
            signed_at,
            received_at: delivery.received_at,
        };
        map::events(&delivery.body, &defaults).map_err(|error| ReceiveError::Unmappable(error.to_string()))
    }

    async fn send(&self, account: &Account, outbound: &Outbound) -> Result<Receipt, SendError> {
        send::send(&self.client, self.guard, &self.clock, account, outbound).await
    }

    async fn typing(&self, account: &Account, notice: &TypingNotice) {
        send::typing(&self.client, self.guard, &self.clock, account, notice).await;
    }
}
