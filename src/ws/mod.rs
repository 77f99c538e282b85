//! What lives here: the WebSocket at `/ws/messages/`: handshake, frames in and out, close codes.
//! Who calls it: browsers and programs; the user's session pushes frames to it.
//! What it may not know: SQL, platforms, how events are made.

mod codes;
mod commands;
mod guard;
mod handshake;
mod socket;
mod transport;
mod wire;

pub use codes::CloseCode;
pub use handshake::routes;
