//! What is known about each auth key on each DC: who is logged in with it, and whether it is dead.

use std::sync::Arc;

use super::{Conn, Out, World};
use crate::key::KeyId;
use crate::spec::Revocation;
use crate::tl::now;

/// Length of a salt's turn in seconds; a salt is accepted one turn longer.
const TURN: i32 = 1800;

/// An auth key of the chain.
pub(crate) struct AuthKey {
    pub id: KeyId,
    pub bytes: [u8; 256],
}

/// One auth key on one DC.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    pub user: Option<i64>,
    /// Logged in here, rather than copied from another DC for its files.
    pub home: bool,
    pub dead: Option<Revocation>,
    /// The code was right, the password is still missing.
    pub password_for: Option<i64>,
    pub token: Option<Token>,
    pub device: String,
    pub app: String,
    pub api_id: i32,
    pub created: i32,
    pub active: i32,
    /// Connections now, and the most there were at once.
    pub connections: u32,
    pub peak: u32,
}

/// A QR login token of a key.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub bytes: Vec<u8>,
    pub expires: i32,
    /// Who scanned it.
    pub scanned: Option<i64>,
}

impl World {
    pub fn key_by_id(&self, id: KeyId) -> Option<(u32, Arc<AuthKey>)> {
        let n = *self.key_numbers.get(&id)?;
        Some((n, Arc::clone(self.keys.get(n as usize)?)))
    }

    pub fn slot(&mut self, dc: i32, key: u32) -> &mut Slot {
        self.slots.entry((dc, key)).or_insert_with(|| Slot {
            created: now(),
            ..Slot::default()
        })
    }

    /// A connection has shown which key it uses.
    pub fn open(&mut self, conn: u64, entry: Conn) {
        let slot = self.slot(entry.dc, entry.key);
        slot.connections += 1;
        slot.active = now();
        slot.peak = slot.peak.max(slot.connections);
        if slot.connections > 1 && self.config.detect_duplicates {
            let slot = self.slot(entry.dc, entry.key);
            if slot.user.is_some() {
                slot.dead = Some(Revocation::Duplicated);
            }
        }
        self.conns.insert(conn, entry);
    }

    /// Marks a login dead on the DC where it lives. `drop` also closes its sockets.
    pub fn revoke(&mut self, key: u32, why: Revocation, drop: bool) {
        for ((_, number), slot) in &mut self.slots {
            if *number == key {
                slot.dead = Some(why);
                if why == Revocation::Unregistered {
                    // Logged out, but a new login with the same key works.
                    slot.user = None;
                    slot.dead = None;
                }
            }
        }
        if drop || why == Revocation::Unknown {
            self.drop_connections(|conn| conn.key == key);
        }
    }

    /// Closes sockets; answers how many.
    pub fn drop_connections(&mut self, which: impl Fn(&Conn) -> bool) -> usize {
        let ids: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| which(conn))
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            if let Some(conn) = self.conns.get(id) {
                conn.stop.abort();
            }
            self.close(*id);
        }
        ids.len()
    }

    /// The keys an account is logged in with (at its home DC).
    pub fn keys_of(&self, account: i64) -> Vec<u32> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.user == Some(account) && slot.home && slot.dead.is_none())
            .map(|((_, key), _)| *key)
            .collect()
    }

    /// The number by which other devices see a login.
    pub fn login_hash(&self, dc: i32, key: u32) -> i64 {
        self.stable(&[200, i64::from(dc), i64::from(key)])
    }

    /// The salt of a key for the turn that contains `time`.
    fn salt_at(&self, key: u32, time: i32) -> i64 {
        let salt = self.stable(&[300, self.salt_round, i64::from(key), i64::from(time / TURN)]);
        // Zero is what clients start with; it must never be right.
        if salt == 0 { 1 } else { salt }
    }

    pub fn salt(&self, key: u32) -> i64 {
        self.salt_at(key, now())
    }

    pub fn salt_ok(&self, key: u32, salt: i64) -> bool {
        let now = now();
        !self.config.check_salts
            || [now - TURN, now, now + TURN]
                .iter()
                .any(|t| self.salt_at(key, *t) == salt)
    }

    /// Salts of this and the next turns: valid since, valid until, salt.
    pub fn future_salts(&self, key: u32, count: i32) -> Vec<(i32, i32, i64)> {
        let first = now() / TURN * TURN;
        (0..count.clamp(1, 64))
            .map(|n| first + n * TURN)
            .map(|since| (since, since + 2 * TURN, self.salt_at(key, since)))
            .collect()
    }

    /// Makes every salt given out so far wrong.
    pub fn rotate_salts(&mut self) {
        self.salt_round += 1;
    }

    /// Sends one object to every connection of a key.
    pub fn send_to_key(&mut self, key: u32, body: &[u8]) {
        let conns: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.key == key)
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            self.send(conn, Out::push(body.to_vec()));
        }
    }
}
