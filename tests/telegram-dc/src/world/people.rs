//! People, accounts, basic groups and channels.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Draft, Mailbox, Place, World};
use crate::spec::{NewAccount, NewChannel, NewChat, NewUser, Peer, Service};
use crate::srp::Verifier;
use crate::tl::{Refusal, Rpc, now};

/// Whose message box: private chats and basic groups are in the account's, a channel has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    Account(i64),
    Channel(i64),
}

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub id: i64,
    pub spec: NewUser,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub phone: String,
    pub code: String,
    pub password: Option<String>,
    pub verifier: Option<Arc<Verifier>>,
    pub hint: Option<String>,
    pub dc: i32,
    pub mailbox: Mailbox,
    pub qts: i32,
    pub qts_events: Vec<i32>,
    pub seq: i32,
    /// Events still to be stored without a push.
    pub lose: u32,
    /// Differences still to be answered "too long".
    pub force_too_long: u32,
    pub channel_read: HashMap<i64, i32>,
    /// Hash and expiry of the code asked for last.
    pub code_hash: Option<(String, i32)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Chat {
    pub title: String,
    pub members: Vec<i64>,
    pub date: i32,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub title: String,
    pub username: Option<String>,
    pub broadcast: bool,
    pub creator: Option<i64>,
    pub members: BTreeSet<i64>,
    pub slowmode: Option<i32>,
    pub last_sent: HashMap<i64, tokio::time::Instant>,
    pub date: i32,
    pub mailbox: Mailbox,
    pub lose: u32,
    pub force_too_long: u32,
}

/// A phone number as it is compared: its digits.
pub(crate) fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

impl World {
    pub fn add_user(&mut self, spec: NewUser) -> Rpc<i64> {
        let id = self.pick(spec.id, 1_000_000, |world, id| world.users.contains_key(&id))?;
        self.users.insert(id, User { id, spec });
        Ok(id)
    }

    pub fn add_account(&mut self, spec: NewAccount) -> Rpc<i64> {
        let phone = digits(&spec.phone);
        if phone.is_empty() || self.account_by_phone(&phone).is_some() {
            return Err(Refusal::new(400, "the phone number is empty or taken"));
        }
        let dc = spec.dc.unwrap_or(self.home_dc());
        if !self.config.dcs.iter().any(|(id, _)| *id == dc) {
            return Err(Refusal::new(400, format!("there is no DC {dc}")));
        }
        let id = self.add_user(NewUser {
            id: spec.id,
            first_name: spec.first_name,
            last_name: spec.last_name,
            username: spec.username,
            phone: Some(phone.clone()),
            contact: false,
            bot: false,
        })?;
        let account = Account {
            phone,
            code: spec.code.unwrap_or_else(|| "12345".into()),
            password: spec.password,
            verifier: None,
            hint: spec.hint,
            dc,
            mailbox: Mailbox::default(),
            qts: 1,
            qts_events: Vec::new(),
            seq: 0,
            lose: 0,
            force_too_long: 0,
            channel_read: HashMap::new(),
            code_hash: None,
        };
        self.accounts.insert(id, account);
        Ok(id)
    }

    pub fn add_chat(&mut self, spec: NewChat) -> Rpc<i64> {
        let id = self.pick(spec.id, 2_000_000, |world, id| world.chats.contains_key(&id))?;
        self.known(&spec.members)?;
        let creator = spec.members.first().copied();
        let title = spec.title.clone();
        self.chats.insert(
            id,
            Chat {
                title: spec.title,
                members: spec.members,
                date: now(),
            },
        );
        if !spec.quiet {
            self.announce(Place::Chat(id), creator, title)?;
        }
        Ok(id)
    }

    pub fn add_channel(&mut self, spec: NewChannel) -> Rpc<i64> {
        let id = self.pick(spec.id, 3_000_000, |world, id| world.channels.contains_key(&id))?;
        self.known(&spec.members)?;
        let creator = spec.members.first().copied();
        let title = spec.title.clone();
        let channel = Channel {
            title: spec.title,
            username: spec.username,
            broadcast: spec.broadcast,
            creator,
            members: spec.members.into_iter().collect(),
            slowmode: spec.slowmode,
            last_sent: HashMap::new(),
            date: now(),
            mailbox: Mailbox::default(),
            lose: 0,
            force_too_long: 0,
        };
        self.channels.insert(id, channel);
        if !spec.quiet {
            self.announce(Place::Channel(id), creator, title)?;
        }
        Ok(id)
    }

    fn announce(&mut self, place: Place, author: Option<i64>, title: String) -> Rpc<()> {
        let service = Some(Service::Created(title));
        self.post(
            Draft {
                author,
                service,
                ..Draft::to(place)
            },
            false,
            None,
        )
        .map(drop)
    }

    /// An id that was asked for, or the next free one above `base`.
    fn pick(&mut self, wanted: Option<i64>, base: i64, taken: impl Fn(&Self, i64) -> bool) -> Rpc<i64> {
        if let Some(id) = wanted {
            // Telegram's own ranges; clients refuse ids outside.
            if !(1..=997_852_516_352).contains(&id) || taken(self, id) {
                return Err(Refusal::new(400, format!("id {id} is taken or out of range")));
            }
            return Ok(id);
        }
        loop {
            let id = base + self.number();
            if !taken(self, id) {
                return Ok(id);
            }
        }
    }

    fn known(&self, members: &[i64]) -> Rpc<()> {
        match members.iter().find(|id| !self.users.contains_key(id)) {
            Some(id) => Err(Refusal::new(400, format!("there is no user {id}"))),
            None => Ok(()),
        }
    }

    pub fn account_by_phone(&self, phone: &str) -> Option<i64> {
        let phone = digits(phone);
        self.accounts
            .iter()
            .find(|(_, account)| account.phone == phone)
            .map(|(id, _)| *id)
    }

    pub fn account(&self, id: i64) -> Rpc<&Account> {
        self.accounts
            .get(&id)
            .ok_or_else(|| Refusal::new(400, format!("there is no account {id}")))
    }

    pub fn account_mut(&mut self, id: i64) -> Rpc<&mut Account> {
        self.accounts
            .get_mut(&id)
            .ok_or_else(|| Refusal::new(400, format!("there is no account {id}")))
    }

    pub fn channel(&self, id: i64) -> Rpc<&Channel> {
        self.channels
            .get(&id)
            .ok_or_else(|| Refusal::new(400, "CHANNEL_INVALID"))
    }

    pub fn channel_mut(&mut self, id: i64) -> Rpc<&mut Channel> {
        self.channels
            .get_mut(&id)
            .ok_or_else(|| Refusal::new(400, "CHANNEL_INVALID"))
    }

    pub fn mailbox(&self, owner: Owner) -> Rpc<&Mailbox> {
        match owner {
            Owner::Account(id) => self.account(id).map(|account| &account.mailbox),
            Owner::Channel(id) => self.channel(id).map(|channel| &channel.mailbox),
        }
    }

    pub fn mailbox_mut(&mut self, owner: Owner) -> Rpc<&mut Mailbox> {
        match owner {
            Owner::Account(id) => self.account_mut(id).map(|account| &mut account.mailbox),
            Owner::Channel(id) => self.channel_mut(id).map(|channel| &mut channel.mailbox),
        }
    }

    /// Whose message box holds `peer` as `account` sees it.
    pub fn owner_of(account: i64, peer: Peer) -> Owner {
        match peer {
            Peer::Channel(id) => Owner::Channel(id),
            _ => Owner::Account(account),
        }
    }

    /// The accounts that see what happens in a message box.
    pub fn viewers(&self, owner: Owner) -> Vec<i64> {
        match owner {
            Owner::Account(id) => vec![id],
            Owner::Channel(id) => self.channels.get(&id).map_or_else(Vec::new, |channel| {
                channel
                    .members
                    .iter()
                    .filter(|m| self.accounts.contains_key(m))
                    .copied()
                    .collect()
            }),
        }
    }
}
