//! Reading streams.

use hub_actors::ports::{Store as _, StreamRead};
use hub_actors::{Seq, UserId};

use crate::bed::{message, on_each_database};

#[test]
fn many_streams_are_read_at_once_in_the_order_of_asking() {
    on_each_database(|bed| async move {
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        for (user, count) in [(&anna, 5), (&ben, 2)] {
            let account = bed.account(user.id, "shop").await;
            for number in 0..count {
                bed.inbound(&account, "chat", vec![message(&format!("m{number}"), bed.clock.now())])
                    .await;
            }
        }
        let nobody = UserId(uuid::Uuid::nil());
        let questions: Vec<StreamRead> = [
            (ben.id, 0, 10),
            (anna.id, 3, 10),
            (nobody, 0, 10),
            (anna.id, 0, 2),
            (anna.id, 5, 10),
            (ben.id, 0, 0),
            (anna.id, 99, 10),
        ]
        .into_iter()
        .map(|(user_id, after, limit)| StreamRead {
            user_id,
            after: Seq(after),
            limit,
        })
        .collect();
        let pages = bed.store.read_streams(&questions).await.unwrap();
        let numbers: Vec<Vec<i64>> = pages
            .iter()
            .map(|page| page.events.iter().map(|event| event.seq.0).collect())
            .collect();
        assert_eq!(
            numbers,
            [vec![1, 2], vec![4, 5], vec![], vec![1, 2], vec![], vec![], vec![]]
        );
        let lasts: Vec<i64> = pages.iter().map(|page| page.state.last.0).collect();
        assert_eq!(lasts, [2, 5, 0, 5, 5, 2, 5]);
        assert!(pages[0].events.iter().all(|event| event.user_id == ben.id));
        assert!(!pages[6].state.covers(Seq(99)));
        assert!(bed.store.read_streams(&[]).await.unwrap().is_empty());
        let position = bed.store.stream_position(anna.id).await.unwrap();
        assert_eq!(position.to_string(), format!("{}:5", bed.store.epoch()));
        assert_eq!(bed.store.stream_position(nobody).await.unwrap().seq, Seq(0));
        bed
    });
}
