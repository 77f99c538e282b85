//! Reading streams.

use hub_actors::ports::{Store as _, StoreError, StreamPage, StreamRead};
use hub_actors::{Seq, UserId};

use crate::bed::{ask, message, on_each_database, on_real};

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
        let pages: Vec<StreamPage> = pages.into_iter().map(Result::unwrap).collect();
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

#[test]
fn an_event_that_cannot_be_read_hurts_only_who_asks_for_it() {
    on_real(|bed| async move {
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        for user in [&anna, &ben] {
            let account = bed.account(user.id, "shop").await;
            for number in 1..=3 {
                bed.inbound(&account, "chat", vec![message(&format!("m{number}"), bed.clock.now())])
                    .await;
            }
        }
        let url = secrecy::ExposeSecret::expose_secret(&bed.settings.url).to_owned();
        let spoil = format!(
            "UPDATE events SET payload = payload || '\\x00' WHERE seq = 2 AND user_id = '{}'",
            anna.id
        );
        ask(&url, &spoil).await;
        let read = |user_id, after| StreamRead {
            user_id,
            after: Seq(after),
            limit: 10,
        };
        let questions = [read(anna.id, 0), read(anna.id, 1), read(anna.id, 2), read(ben.id, 0)];
        let answers = bed.store.read_streams(&questions).await.unwrap();
        let numbers: Vec<Option<Vec<i64>>> = answers
            .iter()
            .map(|answer| Some(answer.as_ref().ok()?.events.iter().map(|event| event.seq.0).collect()))
            .collect();
        assert_eq!(numbers, [Some(vec![1]), None, Some(vec![3]), Some(vec![1, 2, 3])]);
        assert!(matches!(answers[1], Err(StoreError::Failed(_))));
        bed
    });
}
