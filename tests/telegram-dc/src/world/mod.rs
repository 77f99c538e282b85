//! Everything the DC knows, behind one lock: people, groups, channels, message boxes, keys, files, live
//! connections, scripted faults and the log. Whoever changes something under the lock also queues the
//! pushes for it, so that the order on every connection is the order of events.

mod act;
mod files;
mod inspect;
mod keys;
mod mailbox;
mod people;
mod post;
mod push;
mod render;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use files::{File, Upload};
pub(crate) use keys::{AuthKey, Slot, Token};
pub(crate) use mailbox::{Event, Mailbox, Post, What};
pub(crate) use people::{Account, Channel, Chat, Owner, User, digits};
pub(crate) use post::{Draft, Place};
pub(crate) use push::{Conn, Out};
pub(crate) use render::Faces;

use crate::faults::Faults;
use crate::journal::Journal;
use crate::key::{KeyId, derive_auth_key, key_id};
use crate::spec::{DcConfig, PhoneRule, Settings};
use crate::srp::Challenge;

/// random_ids remembered; the oldest are forgotten first.
const SENT_CAP: usize = 200_000;

/// The state of the whole DC.
pub(crate) struct World {
    pub config: DcConfig,
    pub users: BTreeMap<i64, User>,
    pub accounts: BTreeMap<i64, Account>,
    pub chats: BTreeMap<i64, Chat>,
    pub channels: BTreeMap<i64, Channel>,
    pub phones: HashMap<String, PhoneRule>,
    /// Codes asked for by numbers without an account: hash and expiry.
    pub stranger_codes: HashMap<String, (String, i32)>,
    pub keys: Vec<Arc<AuthKey>>,
    key_numbers: HashMap<KeyId, u32>,
    pub slots: BTreeMap<(i32, u32), Slot>,
    pub challenges: HashMap<i64, (i64, Arc<Challenge>)>,
    pub exported: HashMap<i64, (i64, i32)>,
    pub conns: BTreeMap<u64, Conn>,
    pub files: BTreeMap<i64, File>,
    pub uploads: HashMap<(i64, i64), Upload>,
    pub files_bytes: usize,
    pub faults: Faults,
    pub journal: Journal,
    /// Where each logical message is stored: one copy per message box.
    pub copies: HashMap<u64, Vec<(Owner, i32)>>,
    sent: HashMap<(i64, crate::spec::Peer, i64), i32>,
    sent_order: VecDeque<(i64, crate::spec::Peer, i64)>,
    counter: i64,
    salt_round: i64,
}

impl World {
    pub fn new(config: DcConfig) -> Self {
        let keys: Vec<_> = (0..config.keys)
            .map(|n| {
                let bytes = derive_auth_key(&config.seed, n);
                Arc::new(AuthKey {
                    id: key_id(&bytes),
                    bytes,
                })
            })
            .collect();
        let key_numbers = (0_u32..).zip(&keys).map(|(n, key)| (key.id, n)).collect();
        Self {
            journal: Journal::new(config.log_cap),
            config,
            users: BTreeMap::new(),
            accounts: BTreeMap::new(),
            chats: BTreeMap::new(),
            channels: BTreeMap::new(),
            phones: HashMap::new(),
            stranger_codes: HashMap::new(),
            keys,
            key_numbers,
            slots: BTreeMap::new(),
            challenges: HashMap::new(),
            exported: HashMap::new(),
            conns: BTreeMap::new(),
            files: BTreeMap::new(),
            uploads: HashMap::new(),
            files_bytes: 0,
            faults: Faults::default(),
            copies: HashMap::new(),
            sent: HashMap::new(),
            sent_order: VecDeque::new(),
            counter: 0,
            salt_round: 0,
        }
    }

    /// The next number nobody else has.
    pub fn number(&mut self) -> i64 {
        self.counter += 1;
        self.counter
    }

    /// A number that follows from the seed and `parts`.
    pub fn stable(&self, parts: &[i64]) -> i64 {
        crate::key::stable(&self.config.seed, parts)
    }

    /// The DC people live on unless they say otherwise.
    pub fn home_dc(&self) -> i32 {
        self.config.dcs.first().map_or(2, |(id, _)| *id)
    }

    pub fn set(&mut self, settings: &Settings) {
        macro_rules! take {
            ($($field:ident),*) => {
                $( if let Some(value) = settings.$field { self.config.$field = value; } )*
            };
        }
        take!(
            slice,
            too_long,
            channel_too_long,
            short_sent,
            short_pushes,
            seq_pushes,
            repeat,
            channel_hints,
            detect_duplicates,
            check_access_hashes
        );
    }

    /// The id a `random_id` was given before in this chat.
    pub fn already_sent(&self, account: i64, peer: crate::spec::Peer, random_id: i64) -> Option<i32> {
        self.sent.get(&(account, peer, random_id)).copied()
    }

    pub fn remember_sent(&mut self, account: i64, peer: crate::spec::Peer, random_id: i64, id: i32) {
        let key = (account, peer, random_id);
        if self.sent.insert(key, id).is_none() {
            self.sent_order.push_back(key);
        }
        if self.sent_order.len() > SENT_CAP
            && let Some(oldest) = self.sent_order.pop_front()
        {
            self.sent.remove(&oldest);
        }
    }
}
