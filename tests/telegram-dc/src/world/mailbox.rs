//! One numbered message box: messages, read marks, and the events that differences are made of.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use grammers_tl_types::enums;

use crate::spec::{Peer, Service};

/// One copy of a message.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub id: i32,
    /// The same for every copy of one message.
    pub uid: u64,
    pub peer: Peer,
    pub author: Option<i64>,
    pub out: bool,
    pub date: i32,
    pub text: String,
    pub entities: Vec<enums::MessageEntity>,
    pub reply_to: Option<i32>,
    pub file: Option<i64>,
    pub service: Option<Service>,
    pub edit_date: Option<i32>,
    /// Who, which emoji, when.
    pub reactions: Vec<(i64, String, i32)>,
    pub random_id: Option<i64>,
    pub pinned: bool,
    pub grouped: Option<i64>,
    /// Original author and date of a forwarded message.
    pub forward: Option<(Option<i64>, i32)>,
}

/// Something that moved pts.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// pts after it.
    pub pts: i32,
    pub count: i32,
    pub what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    New(i32),
    Edited(i32),
    Deleted(Vec<i32>),
    ReadIn { peer: Peer, max_id: i32 },
    ReadOut { peer: Peer, max_id: i32 },
    Pinned { peer: Peer, ids: Vec<i32>, pinned: bool },
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    pub pts: i32,
    next_id: i32,
    pub posts: BTreeMap<i32, Post>,
    by_peer: HashMap<Peer, BTreeSet<i32>>,
    pub events: VecDeque<Event>,
    /// Differences from before this pts are gone.
    pub floor: i32,
    /// When the last event happened.
    pub changed: i32,
    pub read_in: HashMap<Peer, i32>,
    pub read_out: HashMap<Peer, i32>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            pts: 1,
            next_id: 1,
            posts: BTreeMap::new(),
            by_peer: HashMap::new(),
            events: VecDeque::new(),
            floor: 1,
            changed: 0,
            read_in: HashMap::new(),
            read_out: HashMap::new(),
        }
    }
}

impl Mailbox {
    pub fn take_id(&mut self) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    pub fn insert(&mut self, post: Post) {
        self.by_peer.entry(post.peer).or_default().insert(post.id);
        self.posts.insert(post.id, post);
    }

    pub fn remove(&mut self, id: i32) -> Option<Post> {
        let post = self.posts.remove(&id)?;
        if let Some(ids) = self.by_peer.get_mut(&post.peer) {
            ids.remove(&id);
        }
        Some(post)
    }

    /// Records an event; the oldest ones are dropped above `cap`.
    pub fn record(&mut self, what: What, count: i32, cap: usize) -> Event {
        self.pts = self.pts.saturating_add(count);
        self.changed = crate::clock::now();
        let event = Event {
            pts: self.pts,
            count,
            what,
        };
        self.events.push_back(event.clone());
        while self.events.len() > cap {
            if let Some(old) = self.events.pop_front() {
                self.floor = old.pts;
            }
        }
        event
    }

    /// Moves pts with nothing to tell about it.
    pub fn skip(&mut self, count: i32) {
        self.pts = self.pts.saturating_add(count);
    }

    /// Events after `pts`, oldest first.
    pub fn since(&self, pts: i32) -> impl Iterator<Item = &Event> {
        let start = self.events.partition_point(|event| event.pts <= pts);
        self.events.range(start..)
    }

    /// Message ids of a chat, newest first.
    pub fn ids(&self, peer: Peer) -> impl Iterator<Item = i32> {
        self.by_peer
            .get(&peer)
            .into_iter()
            .flat_map(|ids| ids.iter().rev().copied())
    }

    pub fn top(&self, peer: Peer) -> Option<&Post> {
        let id = self.by_peer.get(&peer)?.last()?;
        self.posts.get(id)
    }

    /// Chats with at least one message.
    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        self.by_peer
            .iter()
            .filter(|(_, ids)| !ids.is_empty())
            .map(|(peer, _)| *peer)
    }

    /// Messages of others above the read mark.
    pub fn unread(&self, peer: Peer, read: i32, reader: i64) -> i32 {
        let Some(ids) = self.by_peer.get(&peer) else { return 0 };
        let unread = ids
            .range(read.saturating_add(1)..)
            .filter_map(|id| self.posts.get(id))
            .filter(|post| !post.out && post.author != Some(reader))
            .count();
        i32::try_from(unread).unwrap_or(i32::MAX)
    }
}
