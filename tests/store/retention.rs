//! What is deleted in time.

use std::time::Duration;

use hub_actors::Seq;
use hub_actors::ports::Store as _;

use crate::bed::{message, on_each_database};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn old_events_go_from_the_beginning_of_the_stream() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        for number in 0..3 {
            bed.inbound(
                &account,
                "chat",
                vec![message(&format!("old{number}"), bed.clock.now())],
            )
            .await;
        }
        bed.later(20 * DAY);
        bed.inbound(&account, "chat", vec![message("young", bed.clock.now())])
            .await;
        assert_eq!(bed.store.retain().await.unwrap(), 0);
        bed.later(11 * DAY);
        assert_eq!(bed.store.retain().await.unwrap(), 3);
        let state = bed.store.stream_page(user.id, Seq(0), 10).await.unwrap().state;
        assert_eq!((state.trimmed, state.last), (Seq(3), Seq(4)));
        let page = bed.store.stream_page(user.id, Seq(0), 10).await.unwrap();
        assert!(page.events.is_empty(), "a page never begins behind a gap");
        assert!(!page.state.covers(Seq(2)) && page.state.covers(Seq(3)));
        assert_eq!(
            bed.store.stream_page(user.id, Seq(3), 10).await.unwrap().events.len(),
            1
        );
        bed.later(20 * DAY);
        assert_eq!(bed.store.retain().await.unwrap(), 1);
        bed.inbound(&account, "chat", vec![message("new", bed.clock.now())])
            .await;
        let page = bed.store.stream_page(user.id, Seq(4), 10).await.unwrap();
        assert_eq!(
            (page.events.len(), page.events[0].seq, page.state.trimmed),
            (1, Seq(5), Seq(4))
        );
        assert_eq!(
            bed.messages(user.id, bed.conversations(user.id).await[0].id)
                .await
                .len(),
            5,
            "messages stay"
        );
        bed
    });
}
