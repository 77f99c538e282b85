//! The link of a Telegram account, without the hub around it: the real client talks to a real MTProto server over TCP,
//! and what it hands over is kept in memory.
#![cfg(test)]

mod bed;
mod gaps;
mod inbound;
mod media;
mod opening;
mod outbound;
