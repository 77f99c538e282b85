//! P15: a session that Telegram does not accept any more is not tried again: the person is told, and nothing knocks.

use std::time::Duration;

use telegram_dc::{ConnFilter, LogFilter, Revocation, Revoke};

use crate::bed::{Bed, account, log_in, state, text};
use crate::support::{self, Kind};

#[test]
fn nothing_knocks_at_a_door_that_stays_shut() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let user = bed.hub.user().await;
        let mut shut = Vec::new();
        for (number, kind, expected) in [
            (0, Revocation::Revoked, "revoked"),
            (1, Revocation::Unregistered, "needs_login"),
            (2, Revocation::Expired, "needs_login"),
            (3, Revocation::Deactivated, "needs_login"),
            (4, Revocation::Duplicated, "needs_login"),
        ] {
            let phone = format!("+1555500{number}");
            let me = account(&bed.dc, &phone, None).await;
            let account = log_in(&user, &phone).await;
            state(&user, &account, "live").await;
            let revoke = Revoke {
                account: Some(me),
                kind,
                drop: true,
                ..Revoke::default()
            };
            bed.dc.revoke(revoke).await;
            let ended = state(&user, &account, expected).await;
            assert!(!text(&ended["state_reason"]).is_empty());
            shut.push((account, expected));
        }
        let last = bed.dc.log(LogFilter::default()).await.last().map_or(0, |entry| entry.n);
        bed.dc.drop_connections(ConnFilter::default()).await;
        for (account, _) in &shut {
            user.post(&format!("/api/telegram/{account}/sync"), &serde_json::json!({}))
                .await
                .expect(401);
        }
        // Longer than the first pauses of a link that is tried again.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let after = LogFilter {
            after: last,
            ..LogFilter::default()
        };
        assert_eq!(bed.dc.log(after).await, [], "a call with a dead session");
        for (account, expected) in &shut {
            state(&user, account, expected).await;
        }
        bed.hub.stop().await;
    });
}
