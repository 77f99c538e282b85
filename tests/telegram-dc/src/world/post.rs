//! Writing into message boxes: every change is stored, numbered and pushed here.

use super::{Event, Owner, Post, What, World};
use crate::spec::{Peer, Placed, Service};
use crate::tl::{Refusal, Rpc, now};

/// Where a message goes, independent of who looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Between two people (or one, for saved messages).
    Private(i64, i64),
    Chat(i64),
    Channel(i64),
}

/// A message to be written.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub place: Place,
    pub author: Option<i64>,
    pub text: String,
    pub entities: Vec<grammers_tl_types::enums::MessageEntity>,
    /// uid of the message replied to; every copy gets the id it has in its own box.
    pub reply: Option<u64>,
    pub date: Option<i32>,
    pub file: Option<i64>,
    pub service: Option<Service>,
    pub random_id: Option<i64>,
    pub grouped: Option<i64>,
    pub forward: Option<(Option<i64>, i32)>,
}

impl Draft {
    pub fn to(place: Place) -> Self {
        Self {
            place,
            author: None,
            text: String::new(),
            entities: Vec::new(),
            reply: None,
            date: None,
            file: None,
            service: None,
            random_id: None,
            grouped: None,
            forward: None,
        }
    }
}

impl World {
    fn targets(&self, place: Place) -> Rpc<Vec<(Owner, Peer)>> {
        let has = |id: &i64| self.accounts.contains_key(id);
        Ok(match place {
            Place::Private(a, b) => {
                let mut targets = Vec::new();
                if has(&a) {
                    targets.push((Owner::Account(a), Peer::User(b)));
                }
                if a != b && has(&b) {
                    targets.push((Owner::Account(b), Peer::User(a)));
                }
                targets
            }
            Place::Chat(id) => {
                let chat = self
                    .chats
                    .get(&id)
                    .ok_or_else(|| Refusal::new(400, "CHAT_ID_INVALID"))?;
                let accounts = chat.members.iter().filter(|m| has(m));
                accounts.map(|m| (Owner::Account(*m), Peer::Chat(id))).collect()
            }
            Place::Channel(id) => {
                self.channel(id)?;
                vec![(Owner::Channel(id), Peer::Channel(id))]
            }
        })
    }

    /// Writes a message into every box that gets a copy and pushes it. `lost` stores without pushing;
    /// `except` is the connection that learns of it from its own answer.
    pub fn post(&mut self, draft: Draft, lost: bool, except: Option<u64>) -> Rpc<Vec<Placed>> {
        let mut placed = self.store(draft)?;
        for copy in &mut placed {
            let owner = Self::owner_of(copy.account.unwrap_or(0), copy.peer);
            copy.pts = self.emit(owner, What::New(copy.id), 1, lost, except)?.pts;
        }
        Ok(placed)
    }

    /// Writes a message without an event: it was always there.
    pub fn store(&mut self, draft: Draft) -> Rpc<Vec<Placed>> {
        let targets = self.targets(draft.place)?;
        let uid = self.number().unsigned_abs();
        let mut placed = Vec::with_capacity(targets.len());
        for (owner, peer) in targets {
            let account = match owner {
                Owner::Account(id) => Some(id),
                Owner::Channel(_) => None,
            };
            let reply_to = draft.reply.and_then(|uid| self.copy_in(uid, owner));
            let mailbox = self.mailbox_mut(owner)?;
            let id = mailbox.take_id();
            let pts = mailbox.pts;
            mailbox.insert(Post {
                id,
                uid,
                peer,
                author: draft.author,
                out: account.is_some() && account == draft.author,
                date: draft.date.unwrap_or_else(now),
                text: draft.text.clone(),
                entities: draft.entities.clone(),
                reply_to,
                file: draft.file,
                service: draft.service.clone(),
                edit_date: None,
                reactions: Vec::new(),
                random_id: draft.random_id,
                pinned: false,
                grouped: draft.grouped,
                forward: draft.forward,
            });
            self.copies.entry(uid).or_default().push((owner, id));
            placed.push(Placed { account, peer, id, pts });
        }
        Ok(placed)
    }

    /// The id a message has in a box.
    pub fn copy_in(&self, uid: u64, owner: Owner) -> Option<i32> {
        let copies = self.copies.get(&uid)?;
        copies.iter().find(|(o, _)| *o == owner).map(|(_, id)| *id)
    }

    /// The message with this id as `account` sees the chat.
    pub fn find(&self, account: i64, peer: Peer, id: i32) -> Rpc<&Post> {
        let mailbox = self.mailbox(Self::owner_of(account, peer))?;
        let post = mailbox.posts.get(&id).filter(|post| post.peer == peer);
        post.ok_or_else(|| Refusal::new(400, "MESSAGE_ID_INVALID"))
    }

    /// Numbers, stores and pushes one event.
    pub fn emit(&mut self, owner: Owner, what: What, count: i32, lost: bool, except: Option<u64>) -> Rpc<Event> {
        let cap = self.config.events_cap;
        let event = self.mailbox_mut(owner)?.record(what, count, cap);
        let lose = match owner {
            Owner::Account(id) => &mut self.account_mut(id)?.lose,
            Owner::Channel(id) => &mut self.channel_mut(id)?.lose,
        };
        if *lose > 0 {
            *lose -= 1;
        } else if !lost {
            self.push_event(owner, &event, except);
        }
        Ok(event)
    }

    /// Changes every copy of a message and tells everybody.
    pub fn edit(&mut self, uid: u64, change: impl Fn(&mut Post), lost: bool, except: Option<u64>) -> Rpc<()> {
        for (owner, id) in self.copies.get(&uid).cloned().unwrap_or_default() {
            if let Some(post) = self.mailbox_mut(owner)?.posts.get_mut(&id) {
                change(post);
                post.edit_date = Some(now());
                self.emit(owner, What::Edited(id), 1, lost, except)?;
            }
        }
        Ok(())
    }

    /// Removes messages from `owner`, and from every other box too if `everywhere`. Answers how many
    /// were removed from `owner` and its pts.
    pub fn delete(
        &mut self,
        owner: Owner,
        ids: &[i32],
        everywhere: bool,
        lost: bool,
        except: Option<u64>,
    ) -> Rpc<(i32, i32)> {
        let mut by_owner = std::collections::BTreeMap::<Owner, Vec<i32>>::new();
        for id in ids {
            let Some(post) = self.mailbox(owner)?.posts.get(id) else {
                continue;
            };
            let uid = post.uid;
            let copies = self.copies.get(&uid).cloned().unwrap_or_default();
            for (holder, id) in copies {
                if everywhere || holder == owner {
                    by_owner.entry(holder).or_default().push(id);
                }
            }
        }
        let mut mine = 0;
        for (holder, ids) in by_owner {
            let mailbox = self.mailbox_mut(holder)?;
            let removed: Vec<_> = ids.into_iter().filter_map(|id| mailbox.remove(id)).collect();
            for post in &removed {
                if let Some(copies) = self.copies.get_mut(&post.uid) {
                    copies.retain(|(o, _)| *o != holder);
                }
                if self.copies.get(&post.uid).is_some_and(Vec::is_empty) {
                    self.copies.remove(&post.uid);
                }
            }
            let ids: Vec<_> = removed.iter().map(|post| post.id).collect();
            let count = i32::try_from(ids.len()).unwrap_or(i32::MAX);
            if holder == owner {
                mine = count;
            }
            if count > 0 {
                self.emit(holder, What::Deleted(ids), count, lost, except)?;
            }
        }
        Ok((mine, self.mailbox(owner)?.pts))
    }
}
