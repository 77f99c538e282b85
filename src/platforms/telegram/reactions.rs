//! Telegram tells of reactions as "these are the reactions now"; the hub wants to know what was added and removed.

use std::collections::{HashMap, VecDeque};

use grammers_tl_types::enums;
use hub_actors::domain::InboundKind;
use time::OffsetDateTime;

use super::peers;

/// Messages whose reactions are known, the oldest forgotten first. What was removed from a message that is forgotten
/// is not noticed.
const REMEMBERED: usize = 2048;

/// Who reacted, and with what.
type Reaction = (String, String);

/// The reactions seen so far.
#[derive(Default)]
pub(super) struct Reactions {
    known: HashMap<(i64, i32), Vec<Reaction>>,
    order: VecDeque<(i64, i32)>,
}

impl Reactions {
    /// What changed, now that these are the reactions of the message. Telegram names the people behind the newest
    /// reactions only; where there are more, nobody's reaction is taken for removed.
    pub(super) fn changes(
        &mut self,
        dialog: i64,
        message: i32,
        now: &enums::MessageReactions,
        heard_at: OffsetDateTime,
    ) -> Vec<InboundKind> {
        let enums::MessageReactions::Reactions(now) = now;
        let named = now.recent_reactions.as_deref().unwrap_or_default();
        let mut current: Vec<(Reaction, OffsetDateTime)> = Vec::with_capacity(named.len());
        for enums::MessagePeerReaction::Reaction(reaction) in named {
            let actor = peers::id_of(&reaction.peer_id);
            if let (Some(actor), Some(emoji)) = (actor, emoji(&reaction.reaction)) {
                let at = OffsetDateTime::from_unix_timestamp(i64::from(reaction.date)).unwrap_or(heard_at);
                current.push(((actor.to_string(), emoji), at));
            }
        }
        let total: i64 = now
            .results
            .iter()
            .map(|count| {
                let enums::ReactionCount::Count(count) = count;
                i64::from(count.count)
            })
            .sum();
        let is_whole = usize::try_from(total).is_ok_and(|total| total == named.len());
        let key = (dialog, message);
        let before = self.known.get(&key).map(Vec::as_slice).unwrap_or_default();
        let event = |(actor_id, emoji): &Reaction, is_active, at| InboundKind::Reaction {
            message: message.to_string().into(),
            actor_id: actor_id.clone(),
            emoji: emoji.clone(),
            is_active,
            at,
        };
        let is_there = |reaction: &Reaction| current.iter().any(|(current, _)| current == reaction);
        let removed = before.iter().filter(|reaction| is_whole && !is_there(reaction));
        let mut changes: Vec<_> = removed.map(|reaction| event(reaction, false, heard_at)).collect();
        let added = current.iter().filter(|(reaction, _)| !before.contains(reaction));
        changes.extend(added.map(|(reaction, at)| event(reaction, true, *at)));
        let mut after: Vec<Reaction> = current.into_iter().map(|(reaction, _)| reaction).collect();
        if !is_whole {
            let kept: Vec<_> = before
                .iter()
                .filter(|reaction| !after.contains(reaction))
                .cloned()
                .collect();
            after.extend(kept);
        }
        self.remember(key, after);
        changes
    }

    fn remember(&mut self, key: (i64, i32), reactions: Vec<Reaction>) {
        if reactions.is_empty() {
            self.known.remove(&key);
            return;
        }
        if self.known.insert(key, reactions).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// A reaction as text; none for pictures that are no emoji.
fn emoji(reaction: &enums::Reaction) -> Option<String> {
    match reaction {
        enums::Reaction::Emoji(reaction) => Some(reaction.emoticon.clone()),
        enums::Reaction::Paid => Some("⭐".to_owned()),
        enums::Reaction::CustomEmoji(_) | enums::Reaction::Empty => None,
    }
}

#[cfg(test)]
mod tests {
    use grammers_tl_types as tl;

    use super::*;

    fn reactions(people: &[(i64, &str)], total: i32) -> enums::MessageReactions {
        let reaction = |emoji: &str| -> enums::Reaction {
            tl::types::ReactionEmoji {
                emoticon: emoji.to_owned(),
            }
            .into()
        };
        let recent = people.iter().map(|(user_id, emoji)| {
            tl::types::MessagePeerReaction {
                big: false,
                unread: false,
                my: false,
                peer_id: tl::types::PeerUser { user_id: *user_id }.into(),
                date: 100,
                reaction: reaction(emoji),
            }
            .into()
        });
        let count = tl::types::ReactionCount {
            chosen_order: None,
            reaction: reaction("👍"),
            count: total,
        };
        tl::types::MessageReactions {
            min: false,
            can_see_list: true,
            reactions_as_tags: false,
            results: vec![count.into()],
            recent_reactions: Some(recent.collect()),
            top_reactors: None,
        }
        .into()
    }

    fn told(changes: &[InboundKind]) -> Vec<(String, String, bool)> {
        let reaction = |change: &InboundKind| match change {
            InboundKind::Reaction {
                actor_id,
                emoji,
                is_active,
                ..
            } => (actor_id.clone(), emoji.clone(), *is_active),
            other => panic!("{other:?}"),
        };
        changes.iter().map(reaction).collect()
    }

    fn word(actor: &str, emoji: &str, is_active: bool) -> (String, String, bool) {
        (actor.to_owned(), emoji.to_owned(), is_active)
    }

    #[test]
    fn only_what_changed_is_told() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut known = Reactions::default();
        let mut hear = |people: &[(i64, &str)], total| told(&known.changes(1, 2, &reactions(people, total), now));
        assert_eq!(hear(&[(7, "👍")], 1), [word("7", "👍", true)]);
        assert_eq!(hear(&[(7, "👍")], 1), []);
        assert_eq!(hear(&[(8, "👍"), (7, "👍")], 2), [word("8", "👍", true)]);
        assert_eq!(
            hear(&[(8, "🔥")], 1),
            [word("8", "👍", false), word("7", "👍", false), word("8", "🔥", true)]
        );
        // Of ten reactions, one has a name: who is not named may still be there.
        assert_eq!(hear(&[(9, "👍")], 10), [word("9", "👍", true)]);
        assert_eq!(hear(&[], 0), [word("9", "👍", false), word("8", "🔥", false)]);
    }

    #[test]
    fn only_so_many_messages_are_remembered() {
        let mut known = Reactions::default();
        for message in 0..3000 {
            known.changes(1, message, &reactions(&[(7, "👍")], 1), OffsetDateTime::UNIX_EPOCH);
        }
        assert!(known.known.len() <= REMEMBERED && known.order.len() <= REMEMBERED);
    }
}
