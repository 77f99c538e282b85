//! Who may fetch a part of a file from its platform now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hub_actors::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Parts that are fetched at once.
const ALL: usize = 16;
/// Parts that are fetched at once for one person, so that somebody's slow platform leaves room for the others.
const OF_ONE: usize = ALL / 4;

/// The turns of this hub.
pub struct Turns {
    all: Semaphore,
    /// Of those only who fetch or wait.
    of: Mutex<HashMap<UserId, Weak<Semaphore>>>,
}

/// A turn. It is over when this is dropped.
pub struct Turn<'t> {
    _own: OwnedSemaphorePermit,
    _one: SemaphorePermit<'t>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            all: Semaphore::new(ALL),
            of: Mutex::default(),
        }
    }
}

impl Turns {
    /// Waits for a turn. None never happens: nothing closes the semaphores.
    pub async fn take(&self, user_id: UserId) -> Option<Turn<'_>> {
        let own = self.own(user_id).acquire_owned().await.ok()?;
        let one = self.all.acquire().await.ok()?;
        Some(Turn { _own: own, _one: one })
    }

    fn own(&self, user_id: UserId) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of.get(&user_id).and_then(Weak::upgrade) {
            return own;
        }
        of.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(OF_ONE));
        of.insert(user_id, Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_person_leaves_room_for_the_others() {
        let turns = Turns::default();
        let take = |person: u128| turns.take(UserId(Uuid::from_u128(person))).now_or_never().flatten();
        let mut held: Vec<_> = (0..OF_ONE).map(|_| take(1).unwrap()).collect();
        assert!(take(1).is_none());
        for person in 2..=4 {
            held.extend((0..OF_ONE).map(|_| take(person).unwrap()));
        }
        assert!(take(5).is_none(), "there are no more than {ALL}");
        held.truncate(1);
        assert!(take(1).is_some() && take(5).is_some());
        drop(held);
        assert!(take(6).is_some());
        assert_eq!(turns.of.lock().unwrap().len(), 1, "who fetches nothing is forgotten");
    }
}
