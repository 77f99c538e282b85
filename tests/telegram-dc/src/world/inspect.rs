//! Looking at the world from outside, and the holes tests make in its numbering.

use grammers_tl_types as tl;

use super::{Faces, Owner, World};
use crate::spec::{AccountState, ChannelState, DcState, Gap, KeyState, MakeGap, Peer, Stored};
use crate::tl::{Refusal, Rpc, required};

fn add(counter: &mut u32, count: u32) {
    *counter = counter.saturating_add(count);
}

impl World {
    pub fn state(&self) -> DcState {
        let accounts = self.accounts.iter().map(|(id, account)| {
            let keys = self.keys_of(*id);
            let connections = self.conns.values().filter(|conn| keys.contains(&conn.key)).count();
            AccountState {
                id: *id,
                phone: account.phone.clone(),
                pts: account.mailbox.pts,
                qts: account.qts,
                seq: account.seq,
                messages: account.mailbox.posts.len(),
                keys,
                connections,
            }
        });
        let channels = self.channels.iter().map(|(id, channel)| ChannelState {
            id: *id,
            pts: channel.mailbox.pts,
            messages: channel.mailbox.posts.len(),
        });
        let keys = self.slots.iter().map(|((dc, key), slot)| KeyState {
            dc: *dc,
            key: *key,
            account: slot.user,
            dead: slot.dead,
            connections: slot.connections,
            peak: slot.peak,
            device: slot.device.clone(),
        });
        DcState {
            accounts: accounts.collect(),
            channels: channels.collect(),
            keys: keys.collect(),
            connections: self.conns.len(),
            faults: self.faults.list().len(),
        }
    }

    pub fn stored(&self, owner: Owner, peer: Option<Peer>) -> Rpc<Vec<Stored>> {
        let posts = self.mailbox(owner)?.posts.values();
        Ok(posts
            .filter(|post| peer.is_none_or(|peer| peer == post.peer))
            .map(|post| Stored {
                id: post.id,
                peer: post.peer,
                from: post.author,
                out: post.out,
                date: post.date,
                text: post.text.clone(),
                reply_to: post.reply_to,
                random_id: post.random_id,
                file: post.file,
                reactions: post.reactions.iter().map(|(who, e, _)| (*who, e.clone())).collect(),
                edited: post.edit_date.is_some(),
                service: post.service.is_some(),
            })
            .collect())
    }

    pub fn gap(&mut self, gap: MakeGap) -> Rpc<()> {
        let count = i32::try_from(gap.count).unwrap_or(i32::MAX);
        match (gap.account, gap.channel, gap.kind) {
            (Some(id), None, Gap::Lose) => add(&mut self.account_mut(id)?.lose, gap.count),
            (Some(id), None, Gap::Pts) => self.account_mut(id)?.mailbox.skip(count),
            (Some(id), None, Gap::TooLong) => add(&mut self.account_mut(id)?.force_too_long, gap.count),
            (Some(id), None, Gap::Seq) => {
                let seq = &mut self.account_mut(id)?.seq;
                *seq = seq.saturating_add(count);
            }
            (Some(id), None, Gap::Qts) => {
                for _ in 0..gap.count.min(10_000) {
                    self.push_qts(id, true)?;
                }
            }
            (None, Some(id), Gap::Lose) => add(&mut self.channel_mut(id)?.lose, gap.count),
            (None, Some(id), Gap::Pts) => self.channel_mut(id)?.mailbox.skip(count),
            (None, Some(id), Gap::TooLong) => add(&mut self.channel_mut(id)?.force_too_long, gap.count),
            (None, Some(_), Gap::Qts | Gap::Seq) => {
                return Err(Refusal::new(400, "a channel has neither qts nor seq"));
            }
            _ => return Err(Refusal::new(400, "give an account or a channel")),
        }
        Ok(())
    }

    /// From now on nothing goes wrong: neither by a script nor by a hole still to come.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
        for account in self.accounts.values_mut() {
            (account.lose, account.force_too_long) = (0, 0);
        }
        for channel in self.channels.values_mut() {
            (channel.lose, channel.force_too_long) = (0, 0);
        }
    }

    pub fn push_channel_too_long(&mut self, channel: i64, with_pts: bool) -> Rpc<()> {
        let pts = self.channel(channel)?.mailbox.pts;
        let mut update = required!(tl::types::UpdateChannelTooLong; 0_i32, channel)?;
        update.pts = with_pts.then_some(pts);
        for viewer in self.viewers(Owner::Channel(channel)) {
            self.push(viewer, vec![update.clone().into()], Faces::channel(channel), None);
        }
        Ok(())
    }

    pub fn join(&mut self, peer: Peer, user: i64) -> Rpc<()> {
        if !self.users.contains_key(&user) {
            return Err(Refusal::new(400, format!("there is no user {user}")));
        }
        match peer {
            Peer::Chat(id) => {
                let chat = self.chats.get_mut(&id);
                let chat = chat.ok_or_else(|| Refusal::new(400, "CHAT_ID_INVALID"))?;
                if !chat.members.contains(&user) {
                    chat.members.push(user);
                }
            }
            Peer::Channel(id) => {
                self.channel_mut(id)?.members.insert(user);
                self.tell_membership(id, user);
            }
            Peer::User(_) => return Err(Refusal::new(400, "a person has no members")),
        }
        Ok(())
    }

    pub fn leave(&mut self, peer: Peer, user: i64) -> Rpc<()> {
        match peer {
            Peer::Chat(id) => {
                let chat = self.chats.get_mut(&id);
                let chat = chat.ok_or_else(|| Refusal::new(400, "CHAT_ID_INVALID"))?;
                chat.members.retain(|member| *member != user);
            }
            Peer::Channel(id) => {
                self.channel_mut(id)?.members.remove(&user);
                self.tell_membership(id, user);
            }
            Peer::User(_) => return Err(Refusal::new(400, "a person has no members")),
        }
        Ok(())
    }

    fn tell_membership(&mut self, channel_id: i64, user: i64) {
        if self.accounts.contains_key(&user) {
            let update = tl::types::UpdateChannel { channel_id }.into();
            self.push(user, vec![update], Faces::channel(channel_id), None);
        }
    }
}
