//! What lives here: work on the database while no hub is served by this process: `migrate` and `rotate-key`.
//! Who calls it: main.
//! What it may not know: SQL, the tree.

use hub_actors::Clock;

use crate::app::{StartError, master_key};
use crate::settings::Settings;
use crate::store::{KEY_NOTICE, KEY_SETTLING, Store};
use crate::telemetry;
use crate::vault::Vault;

/// Brings the database to the version that this hub needs, and with `new_epoch` makes it another life of itself: positions
/// in the streams from before are not resumed. Returns what to tell the person.
///
/// # Errors
/// [`StartError`] when a key is missing or the database cannot be reached or changed.
pub async fn migrate(settings: Settings, new_epoch: bool) -> Result<String, StartError> {
    let store = open(settings).await?;
    let renewed = if new_epoch { store.renew_epoch().await } else { Ok(()) };
    store.close().await;
    renewed?;
    let text = if new_epoch {
        "the database is up to date and has a new epoch: clients read afresh"
    } else {
        "the database is up to date"
    };
    Ok(text.to_owned())
}

/// Makes a new key and seals every row with it; a running hub deletes the old one a day later. Hubs on the same external database keep serving:
/// each has the new key before it is used. Interrupted, it goes on where it was when it is called again.
///
/// # Errors
/// [`StartError`] when a key is missing or the database cannot be reached.
pub async fn rotate_key(settings: Settings) -> Result<String, StartError> {
    let store = open(settings).await?;
    let result = rotate(&store).await;
    store.close().await;
    result
}

async fn rotate(store: &Store) -> Result<String, StartError> {
    let key = store.begin_rotation(KEY_NOTICE).await?;
    tracing::info!(
        key,
        "the new key is made; it is used in 30 seconds, when every running hub has it"
    );
    store.complete_rotation(KEY_SETTLING).await?;
    Ok(format!(
        "everything is sealed with key {key}; a running hub deletes the old one in a day, when it has looked again"
    ))
}

async fn open(mut settings: Settings) -> Result<Store, StartError> {
    telemetry::start_beside_answer(&settings.log);
    settings.ensure_keys()?;
    let clock = Clock::system();
    let master = master_key(&settings)?;
    Ok(Store::connect_with_retention(&settings.database, &settings.retention, Vault::default(), master, clock).await?)
}
