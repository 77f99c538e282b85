//! What lives here: one folder per platform, the guard on addresses that people give, and the one HTTP client.
//! Who calls it: `app`, which hands the adapters to the tree, and `http`, which checks addresses and makes secrets.
//! What it may not know: storage, routes, sockets; an adapter sees accounts and messages only as domain types.

pub mod address;
pub mod client;
pub mod custom;
pub mod telegram;

use std::sync::Arc;
use std::time::Duration;

use hub_actors::ports::{Adapter, Adapters};
use hub_actors::{Clock, PlatformId};

pub use client::ClientError;

use crate::settings::Settings;

/// The custom channel: any system that speaks signed webhooks.
pub const CUSTOM: &str = "custom";

/// Telegram, with a person's own account.
pub const TELEGRAM: &str = "telegram";

/// How long fetching a file may take that a person sends by its address.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Every platform that this hub speaks to, ready to use.
///
/// # Errors
/// [`ClientError`] when no TLS client can be made, as on a system without root certificates.
pub fn adapters(settings: &Settings, clock: Clock) -> Result<Adapters, ClientError> {
    let fetching = fetch_guard(settings);
    let fetch = client::build(FETCH_TIMEOUT, fetching)?;
    let telegram = telegram::Telegram::new(&settings.platforms.telegram, fetch, fetching, clock.clone());
    let telegram: Arc<dyn Adapter> = Arc::new(telegram);
    let guard = address::Guard {
        allow_private: settings.platforms.custom.allow_private_networks,
    };
    let timeout = Duration::from_secs(settings.platforms.custom.timeout_seconds);
    let custom: Arc<dyn Adapter> = Arc::new(custom::Custom::new(client::build(timeout, guard)?, guard, clock));
    Ok(Adapters::new([
        (PlatformId::from(CUSTOM), custom),
        (PlatformId::from(TELEGRAM), telegram),
    ]))
}

/// What may be fetched for a person, who reads the answer in their own chat: nothing that only the hub can reach, whatever
/// receivers may be called. Tests, which have a Telegram of their own on loopback, have their files there too.
fn fetch_guard(settings: &Settings) -> address::Guard {
    address::Guard {
        allow_private: settings.platforms.telegram.test_key_seed.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_in_a_private_network_opens_it_to_no_fetch() {
        let mut settings = Settings::default();
        settings.platforms.custom.allow_private_networks = true;
        assert!(!fetch_guard(&settings).allow_private);
    }
}
