//! Chats and people: their ids as the hub knows them, their names, and how they are addressed.
//!
//! A chat's id, and a person's, is Telegram's dialog id as bots see it: a person is `123`, a basic group `-123`, a
//! channel or supergroup `-1000000000123`. See <https://core.telegram.org/api/bots/ids>.

use grammers_session::types::{ChannelKind, PeerAuth, PeerId, PeerInfo, PeerKind};
use grammers_tl_types::{self as tl, enums};
use hub_actors::ExternalId;
use hub_actors::domain::ConversationProfile;

use super::session::HubSession;

/// The id of a peer; none for one whose number no dialog can have.
pub(super) fn id_of(peer: &enums::Peer) -> Option<PeerId> {
    match peer {
        enums::Peer::User(user) => PeerId::user(user.user_id),
        enums::Peer::Chat(other) => chat(other.chat_id),
        enums::Peer::Channel(other) => channel(other.channel_id),
    }
}

/// The basic group of that number. grammers computes before it checks, and overflows on what no chat can have.
pub(super) fn chat(number: i64) -> Option<PeerId> {
    PeerId::chat(number.max(0))
}

/// The channel or supergroup of that number.
pub(super) fn channel(number: i64) -> Option<PeerId> {
    PeerId::channel(number.clamp(0, i64::MAX / 2))
}

/// The peer that an external id names.
pub(super) fn parse(id: &ExternalId) -> Option<PeerId> {
    PeerId::from_bot_api_dialog_id(id.as_str().parse().ok()?)
}

/// The external id of a peer.
pub(super) fn external(id: PeerId) -> ExternalId {
    id.to_string().into()
}

/// True for channels and supergroups, which number their messages themselves; all other chats of an account share one
/// numbering.
pub(super) fn is_channel(id: PeerId) -> bool {
    id.kind() == PeerKind::Channel
}

/// How a peer is addressed; none while its access hash is not known.
pub(super) fn input(session: &HubSession, id: PeerId) -> Option<enums::InputPeer> {
    if session.self_id().is_some() && id.bare_id() == session.self_id() && id.kind() == PeerKind::User {
        return Some(enums::InputPeer::PeerSelf);
    }
    let bare = id.bare_id()?;
    let hash = || Some(session.known(id)?.info.auth()?.hash());
    Some(match id.kind() {
        PeerKind::Chat => tl::types::InputPeerChat { chat_id: bare }.into(),
        PeerKind::User => tl::types::InputPeerUser {
            user_id: bare,
            access_hash: hash()?,
        }
        .into(),
        PeerKind::Channel => tl::types::InputPeerChannel {
            channel_id: bare,
            access_hash: hash()?,
        }
        .into(),
    })
}

/// How a channel is addressed; none while its access hash is not known.
pub(super) fn input_channel(session: &HubSession, id: PeerId) -> Option<enums::InputChannel> {
    match input(session, id)? {
        enums::InputPeer::Channel(channel) => Some(
            tl::types::InputChannel {
                channel_id: channel.channel_id,
                access_hash: channel.access_hash,
            }
            .into(),
        ),
        _ => None,
    }
}

/// What the hub shows of a chat.
pub(super) fn profile(session: &HubSession, id: PeerId) -> ConversationProfile {
    let is_self = id.kind() == PeerKind::User && id.bare_id() == session.self_id();
    ConversationProfile {
        participant_id: Some(id.to_string()),
        name: if is_self {
            Some("Saved Messages".to_owned())
        } else {
            name(session, id)
        },
        avatar_url: None,
    }
}

/// The name of a person or chat, where it is known.
pub(super) fn name(session: &HubSession, id: PeerId) -> Option<String> {
    session.known(id)?.name
}

/// Takes note of everybody who came with an answer.
pub(super) fn learn(session: &HubSession, users: &[enums::User], chats: &[enums::Chat]) {
    for user in users {
        if let enums::User::User(user) = user {
            learn_user(session, user);
        }
    }
    for chat in chats {
        learn_chat(session, chat);
    }
}

/// A person's name as Telegram's apps write it.
pub(super) fn full_name(user: &tl::types::User) -> Option<String> {
    if user.deleted {
        return Some("Deleted account".to_owned());
    }
    let parts = [user.first_name.as_deref(), user.last_name.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let name = parts.join(" ");
    if name.is_empty() {
        user.username.clone()
    } else {
        Some(name)
    }
}

fn learn_user(session: &HubSession, user: &tl::types::User) {
    if PeerId::user(user.id).is_none() {
        return;
    }
    let info = PeerInfo::User {
        id: user.id,
        // The hash of a shortened user serves only for downloading its picture. See <https://core.telegram.org/api/min>.
        auth: hash(user.access_hash, user.min),
        bot: (!user.min).then_some(user.bot),
        is_self: (!user.min).then_some(user.is_self),
    };
    session.learn(&info, full_name(user));
}

fn learn_chat(session: &HubSession, chat: &enums::Chat) {
    let (info, title) = match chat {
        enums::Chat::Chat(chat) => (PeerInfo::Chat { id: chat.id }, &chat.title),
        enums::Chat::Forbidden(chat) => (PeerInfo::Chat { id: chat.id }, &chat.title),
        enums::Chat::Channel(channel) => {
            let info = PeerInfo::Channel {
                id: channel.id,
                auth: hash(channel.access_hash, channel.min),
                kind: Some(kind(channel.megagroup, channel.gigagroup)),
            };
            (info, &channel.title)
        }
        enums::Chat::ChannelForbidden(channel) => {
            let info = PeerInfo::Channel {
                id: channel.id,
                auth: hash(Some(channel.access_hash), false),
                kind: Some(kind(channel.megagroup, false)),
            };
            (info, &channel.title)
        }
        enums::Chat::Empty(_) | enums::Chat::Community(_) | enums::Chat::CommunityForbidden(_) => return,
    };
    let is_possible = match info {
        PeerInfo::Chat { id } => self::chat(id).is_some(),
        PeerInfo::Channel { id, .. } => channel(id).is_some(),
        PeerInfo::User { .. } => false,
    };
    if is_possible {
        session.learn(&info, Some(title.clone()).filter(|title| !title.is_empty()));
    }
}

fn hash(access_hash: Option<i64>, is_min: bool) -> Option<PeerAuth> {
    access_hash.filter(|_| !is_min).map(PeerAuth::from_hash)
}

fn kind(is_megagroup: bool, is_gigagroup: bool) -> ChannelKind {
    match (is_megagroup, is_gigagroup) {
        (_, true) => ChannelKind::Gigagroup,
        (true, false) => ChannelKind::Megagroup,
        (false, false) => ChannelKind::Broadcast,
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::Centers;
    use super::*;

    #[test]
    fn ids_are_those_that_bots_see() {
        let peers = [
            (PeerId::user(123), "123"),
            (PeerId::chat(123), "-123"),
            (PeerId::channel(123), "-1000000000123"),
        ];
        for (id, text) in peers {
            let id = id.expect("a possible number");
            assert_eq!(external(id).as_str(), text);
            assert_eq!(parse(&text.into()), Some(id));
            assert_eq!(is_channel(id), text.starts_with("-100"));
        }
        for text in ["", "0", "abc", "-1000000000000", "99999999999999999", "1.5"] {
            assert_eq!(parse(&text.into()), None, "{text}");
        }
    }

    #[test]
    fn a_shortened_user_gives_a_name_but_no_hash() {
        let session = HubSession::fresh(&Centers::default());
        let id = PeerId::user(7).expect("a possible number");
        let info = PeerInfo::User {
            id: 7,
            auth: hash(Some(5), true),
            bot: None,
            is_self: None,
        };
        session.learn(&info, Some("Ada".to_owned()));
        assert_eq!(name(&session, id).as_deref(), Some("Ada"));
        assert!(input(&session, id).is_none());
        let info = PeerInfo::User {
            id: 7,
            auth: hash(Some(5), false),
            bot: None,
            is_self: None,
        };
        session.learn(&info, None);
        assert_eq!(name(&session, id).as_deref(), Some("Ada"));
        assert!(matches!(input(&session, id), Some(enums::InputPeer::User(user)) if user.access_hash == 5));
    }
}
