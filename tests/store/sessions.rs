//! Refresh tokens and their families.

use std::time::Duration;

use hub_actors::{SessionId, UserId};
use messaging_hub::store::{NewRefreshToken, Rotation};
use uuid::Uuid;

use crate::bed::{Bed, on_each_database, on_real};

const GRACE: Duration = Duration::from_secs(10);

fn token(bed: &Bed, user_id: UserId, session_id: SessionId, number: u8) -> NewRefreshToken {
    NewRefreshToken {
        id: Uuid::new_v4(),
        session_id,
        user_id,
        token_hash: [number; 32],
        expires_at: bed.clock.now() + Duration::from_secs(7 * 24 * 3600),
    }
}

async fn session(bed: &Bed, name: &str) -> (UserId, SessionId) {
    let user = bed.user(name).await;
    let session = SessionId::generate(bed.clock.now());
    bed.store.start_session(&token(bed, user.id, session, 1)).await.unwrap();
    (user.id, session)
}

#[test]
fn a_token_is_replaced_once_and_given_back_for_a_moment() {
    on_each_database(|bed| async move {
        let (user, session) = session(&bed, "anna").await;
        let next = token(&bed, user, session, 2);
        let rotate = |new: NewRefreshToken, old: u8| {
            let store = bed.store.clone();
            async move {
                store
                    .rotate_session([old; 32], &new, b"the new pair", GRACE)
                    .await
                    .unwrap()
            }
        };
        assert_eq!(rotate(next, 1).await, Rotation::Rotated);
        assert!(bed.store.session_is_live(session).await.unwrap());
        let replacement = b"the new pair".to_vec();
        assert_eq!(
            rotate(token(&bed, user, session, 3), 1).await,
            Rotation::Repeated { replacement }
        );
        assert_eq!(rotate(token(&bed, user, session, 3), 9).await, Rotation::Unknown);

        bed.later(GRACE + Duration::from_secs(1));
        assert_eq!(
            rotate(token(&bed, user, session, 3), 1).await,
            Rotation::Reused { session_id: session }
        );
        assert!(!bed.store.session_is_live(session).await.unwrap());
        assert_eq!(rotate(token(&bed, user, session, 3), 2).await, Rotation::Revoked);
        bed
    });
}

#[test]
fn a_session_ends_by_any_of_its_tokens_or_by_time() {
    on_each_database(|bed| async move {
        let (user, family) = session(&bed, "anna").await;
        let next = token(&bed, user, family, 2);
        assert_eq!(
            bed.store.rotate_session([1; 32], &next, b"", GRACE).await.unwrap(),
            Rotation::Rotated
        );
        assert_eq!(bed.store.end_session_by_token([1; 32]).await.unwrap(), Some(family));
        assert_eq!(bed.store.end_session_by_token([2; 32]).await.unwrap(), Some(family));
        assert_eq!(bed.store.end_session_by_token([7; 32]).await.unwrap(), None);
        assert!(!bed.store.session_is_live(family).await.unwrap());

        let other = SessionId::generate(bed.clock.now());
        let mut first = token(&bed, user, other, 5);
        first.expires_at = bed.clock.now() + Duration::from_secs(60);
        bed.store.start_session(&first).await.unwrap();
        let foreign = token(&bed, UserId(Uuid::nil()), other, 6);
        assert_eq!(
            bed.store.rotate_session([5; 32], &foreign, b"", GRACE).await.unwrap(),
            Rotation::Unknown
        );
        assert!(bed.store.session_is_live(other).await.unwrap());
        bed.later(Duration::from_secs(61));
        assert!(!bed.store.session_is_live(other).await.unwrap());
        let next = token(&bed, user, other, 6);
        assert_eq!(
            bed.store.rotate_session([5; 32], &next, b"", GRACE).await.unwrap(),
            Rotation::Expired
        );
        bed
    });
}

#[test]
fn many_tabs_that_refresh_at_once_get_one_pair() {
    on_real(|bed| async move {
        let (user, family) = session(&bed, "anna").await;
        let tabs = (2..18).map(|number| {
            let (store, new) = (bed.store.clone(), token(&bed, user, family, number));
            async move { store.rotate_session([1; 32], &new, &[number], GRACE).await.unwrap() }
        });
        let answers = futures_util::future::join_all(tabs).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Rotation::Rotated).count(), 1);
        let repeated: Vec<_> = answers.iter().filter(|answer| **answer != Rotation::Rotated).collect();
        assert!(
            repeated
                .iter()
                .all(|answer| matches!(answer, Rotation::Repeated { .. }) && *answer == repeated[0])
        );
        bed
    });
}

/// A hash that no other round uses.
fn hash(round: u8, token: u8) -> [u8; 32] {
    let mut hash = [token; 32];
    hash[0] = round;
    hash
}

#[test]
fn a_sign_out_that_races_a_refresh_still_ends_the_session() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        for round in 0..60 {
            let session = SessionId::generate(bed.clock.now());
            let named = |number: u8| NewRefreshToken {
                token_hash: hash(round, number),
                ..token(&bed, user.id, session, number)
            };
            bed.store.start_session(&named(1)).await.unwrap();
            let next = named(2);
            let refresh = bed.store.rotate_session(hash(round, 1), &next, b"", GRACE);
            let sign_out = bed.store.end_session_by_token(hash(round, 1));
            let (refreshed, ended) = tokio::join!(refresh, sign_out);
            assert_eq!(ended.unwrap(), Some(session));
            let refreshed = refreshed.unwrap();
            assert!(!bed.store.session_is_live(session).await.unwrap(), "{refreshed:?}");
        }
        bed
    });
}
