//! What a person does to a message that is on its platform.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{CommandError, Tree};
use crate::domain::{Act, Change, NewAction};
use crate::ids::UserId;
use crate::mailbox::answer;
use crate::outbox;

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    /// The platform has taken it.
    Done,
    /// It is stored and on its way.
    OnItsWay,
    /// The platform refused it, or cannot do it; why, in words for the person.
    Refused(String),
}

impl Tree {
    /// Edits, deletes or reacts to a message of the user. It is committed, and on its way, when this returns; with `patience`
    /// it waits that long for the platform's answer. The message changes when the platform has taken it.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn act_on_message(
        &self,
        user_id: UserId,
        new: NewAction,
        patience: Option<Duration>,
    ) -> Result<Acted, CommandError> {
        let head = self.head(user_id, new.conversation_id).await?;
        let adapter = self.hub.adapters.get(&head.platform);
        let can = adapter
            .map(|adapter| adapter.capabilities())
            .is_some_and(|can| match &new.act {
                Act::Edit { text } => can.edit && text.chars().count() <= can.max_text,
                Act::Delete => can.delete,
                Act::React { .. } => can.reactions,
            });
        if !can {
            return Ok(Acted::Refused("The platform cannot do this.".to_owned()));
        }
        self.has_room()?;
        let (id, conversation_id) = (new.outbox_id, new.conversation_id);
        let fate = match patience {
            Some(_) => self.watch_entry(id).await,
            None => None,
        };
        self.act(user_id, conversation_id, Change::Act(Box::new(new))).await?;
        let Some((patience, fate)) = patience.zip(fate) else {
            return Ok(Acted::OnItsWay);
        };
        Ok(match answer(fate, patience).await {
            Ok(Ok(())) => Acted::Done,
            Ok(Err(reason)) => Acted::Refused(reason),
            Err(_) => Acted::OnItsWay,
        })
    }

    /// Before the commit, so that an outcome that comes at once is not missed.
    async fn watch_entry(&self, id: crate::ids::OutboxId) -> Option<oneshot::Receiver<Result<(), String>>> {
        let outbox = self.hub.outboxes.get(&0).await.ok()?;
        let (reply, receiver) = oneshot::channel();
        outbox.tell(outbox::Command::WatchEntry { id, reply }).ok()?;
        Some(receiver)
    }
}
