//! P14: a link on which nothing comes any more, although its socket stands, is noticed and shown.

use std::time::Duration;

use hub_actors::clock::instant;
use telegram_dc::{Fault, FaultScript};

use crate::bed::{Bed, account, conversation, dc, friend, log_in, message, settings, state, write};
use crate::support::{self, Hub, Kind};

/// What the test sets; the default is 40 seconds, so that 60 seconds are the longest wait.
const PROBE_SECONDS: u64 = 2;

#[test]
fn a_silent_link_is_noticed_and_made_again() {
    support::run(async {
        let dc = dc().await;
        let lead = settings(&dc);
        let hub = Hub::start_with(Kind::Embedded, |settings| {
            lead(settings);
            settings.tree.probe_seconds = PROBE_SECONDS;
        })
        .await;
        let bed = Bed { dc, hub };
        let me = account(&bed.dc, "+15554000", None).await;
        let friend = friend(&bed.dc, "Friend").await;
        let user = bed.hub.user().await;
        let account = log_in(&user, "+15554000").await;
        state(&user, &account, "live").await;
        write(&bed.dc, me, friend, "before").await;
        let chat = conversation(&user, "Friend").await;
        message(&user, &chat, "before").await;

        bed.dc
            .script(FaultScript::next("*", Fault::NoAnswer).times(u32::MAX))
            .await
            .unwrap();
        let begun = instant();
        let broken = state(&user, &account, "backoff").await;
        let noticed = begun.elapsed();
        println!("noticed after {noticed:?} with a question every {PROBE_SECONDS} s");
        assert!(noticed < Duration::from_secs(PROBE_SECONDS * 3 / 2 + 2), "{noticed:?}");
        assert!(
            broken["state_until"].is_string() && broken["state_reason"].is_string(),
            "{broken}"
        );
        bed.dc.clear_faults().await;
        write(&bed.dc, me, friend, "meanwhile").await;
        message(&user, &chat, "meanwhile").await;
        state(&user, &account, "live").await;
        bed.hub.stop().await;
    });
}
