use grammers_session::types::{PeerAuth, PeerInfo};
use grammers_tl_types::Deserializable as _;

use super::super::session::Centers;
use super::*;

const ME: i64 = 100;
const FRIEND: i64 = 7;

fn mapper() -> Mapper {
    let session = Arc::new(HubSession::fresh(&Centers::default()));
    session.logged_in(ME);
    let user = |id| PeerInfo::User {
        id,
        auth: Some(PeerAuth::from_hash(1)),
        bot: None,
        is_self: None,
    };
    session.learn(&user(FRIEND), Some("Ada".to_owned()));
    session.learn(&user(ME), Some("Me".to_owned()));
    session.learn(&PeerInfo::Chat { id: 5 }, Some("Group".to_owned()));
    Mapper::new(session, Clock::system())
}

fn user(user_id: i64) -> enums::Peer {
    tl::types::PeerUser { user_id }.into()
}

/// The shortest message there is, as bytes: flags, more flags, id, peer, date, text. A newer layer with more optional
/// fields needs no change here.
fn message(id: i32, peer: &enums::Peer, text: &str) -> tl::types::Message {
    use grammers_tl_types::Serializable as _;
    let mut bytes = Vec::new();
    0_i32.serialize(&mut bytes);
    0_i32.serialize(&mut bytes);
    id.serialize(&mut bytes);
    peer.serialize(&mut bytes);
    1_700_000_000_i32.serialize(&mut bytes);
    text.to_owned().serialize(&mut bytes);
    tl::types::Message::from_bytes(&bytes).expect("all required fields")
}

fn service(peer: enums::Peer, from: i64, action: enums::MessageAction) -> enums::Message {
    tl::types::MessageService {
        out: false,
        mentioned: false,
        media_unread: false,
        reactions_are_possible: false,
        silent: false,
        post: false,
        legacy: false,
        id: 9,
        from_id: Some(user(from)),
        peer_id: peer,
        saved_peer_id: None,
        reply_to: None,
        date: 1_700_000_000,
        action,
        reactions: None,
        ttl_period: None,
    }
    .into()
}

fn only(events: Vec<InboundEvent>) -> (InboundEvent, InboundMessage) {
    let [event] = &events[..] else { panic!("{events:?}") };
    let InboundKind::Message(message) = &event.kind else {
        panic!("{event:?}")
    };
    (event.clone(), (**message).clone())
}

#[test]
fn who_wrote_follows_from_the_chat_where_it_is_left_out() {
    let mapper = mapper();
    let group: enums::Peer = tl::types::PeerChat { chat_id: 5 }.into();
    let channel: enums::Peer = tl::types::PeerChannel { channel_id: 3 }.into();
    for (peer, from, is_own, sender, name) in [
        (user(FRIEND), None, false, "7", Some("Ada")),
        (user(FRIEND), None, true, "100", Some("Me")),
        (group.clone(), Some(user(FRIEND)), false, "7", Some("Ada")),
        (channel.clone(), None, false, "-1000000000003", None),
        (channel, None, true, "-1000000000003", None),
        (user(ME), None, true, "100", Some("Me")),
    ] {
        let mut message = message(1, &peer, "hello");
        message.from_id = from;
        message.out = is_own;
        let (event, mapped) = only(mapper.message(&message.into(), Origin::News));
        assert_eq!(
            (mapped.sender_id.as_str(), mapped.sender_name.as_deref()),
            (sender, name)
        );
        assert_eq!((mapped.is_outgoing, mapped.is_read), (is_own, is_own));
        assert_eq!(mapped.sent_at.unix_timestamp(), 1_700_000_000);
        if peer == user(ME) {
            assert_eq!(event.profile.name.as_deref(), Some("Saved Messages"));
        }
    }
}

#[test]
fn the_past_is_read_as_far_as_it_was_read() {
    let mapper = mapper();
    for (id, is_read) in [(4, true), (5, true), (6, false)] {
        let message = message(id, &user(FRIEND), "old").into();
        let (_, mapped) = only(mapper.message(&message, Origin::History { read_up_to: 5 }));
        assert_eq!((mapped.is_read, mapped.is_history), (is_read, true));
    }
}

#[test]
fn a_reply_counts_only_in_its_own_chat() {
    let header = |peer: Option<enums::Peer>| {
        tl::types::MessageReplyHeader {
            reply_to_scheduled: false,
            forum_topic: false,
            quote: false,
            reply_to_ephemeral: false,
            reply_to_msg_id: Some(3),
            reply_to_peer_id: peer,
            reply_from: None,
            reply_media: None,
            reply_to_top_id: None,
            quote_text: None,
            quote_entities: None,
            quote_offset: None,
            todo_item_id: None,
            poll_option: None,
        }
        .into()
    };
    for (peer, expected) in [
        (None, Some("3")),
        (Some(user(FRIEND)), Some("3")),
        (Some(user(8)), None),
    ] {
        let mut message = message(4, &user(FRIEND), "yes");
        message.reply_to = Some(header(peer));
        let (_, mapped) = only(mapper().message(&message.into(), Origin::News));
        assert_eq!(mapped.reply_to.as_ref().map(ExternalId::as_str), expected);
    }
}

#[test]
fn only_a_person_s_edit_is_an_edit() {
    let mapper = mapper();
    for (date, is_hidden, count) in [(Some(5), false, 1), (Some(5), true, 0), (None, false, 0)] {
        let mut message = message(4, &user(FRIEND), "new words");
        message.edit_date = date;
        message.edit_hide = is_hidden;
        assert_eq!(mapper.edited(&message.into()).len(), count);
    }
}

#[test]
fn what_is_neither_text_nor_file_is_described() {
    let point = tl::types::GeoPoint {
        long: 13.4,
        lat: 52.5,
        access_hash: 0,
        accuracy_radius: None,
    };
    let contact = tl::types::MessageMediaContact {
        phone_number: "+15550001".to_owned(),
        first_name: "Ada".to_owned(),
        last_name: String::new(),
        vcard: String::new(),
        user_id: 0,
    };
    let dice = tl::types::MessageMediaDice {
        value: 5,
        emoticon: "🎲".to_owned(),
        game_outcome: None,
    };
    for (media, text) in [
        (
            tl::types::MessageMediaGeo { geo: point.into() }.into(),
            "Location: 52.500000, 13.400000",
        ),
        (contact.into(), "Contact: Ada, +15550001"),
        (dice.into(), "🎲 5"),
        (enums::MessageMedia::Unsupported, "A message that this hub cannot show"),
        (enums::MessageMedia::Empty, ""),
    ] {
        let mut message = message(4, &user(FRIEND), "");
        message.media = Some(media);
        let (_, mapped) = only(mapper().message(&message.into(), Origin::News));
        assert_eq!((mapped.text.as_str(), mapped.kind), (text, MessageKind::Text));
    }
}

#[test]
fn service_messages_are_sentences() {
    let group: enums::Peer = tl::types::PeerChat { chat_id: 5 }.into();
    let added = |users: Vec<i64>| tl::types::MessageActionChatAddUser { users }.into();
    for (action, sentence) in [
        (added(vec![FRIEND]), Some("Ada joined")),
        (added(vec![ME, 555]), Some("Ada added Me, somebody")),
        (enums::MessageAction::PinMessage, Some("Ada pinned a message")),
        (enums::MessageAction::HistoryClear, None),
        (
            tl::types::MessageActionBoostApply { boosts: 1 }.into(),
            Some("Something happened that this hub cannot show"),
        ),
    ] {
        let events = mapper().message(&service(group.clone(), FRIEND, action), Origin::News);
        let text = events.first().map(|event| match &event.kind {
            InboundKind::Message(message) => message.text.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(text.as_deref(), sentence);
    }
}

#[test]
fn nothing_impossible_panics() {
    let mapper = mapper();
    let empty = tl::types::MessageEmpty { id: 3, peer_id: None };
    assert!(mapper.message(&empty.into(), Origin::News).is_empty());
    for peer in [
        user(0),
        user(-1),
        user(i64::MAX),
        tl::types::PeerChannel { channel_id: i64::MAX }.into(),
        tl::types::PeerChat { chat_id: 0 }.into(),
    ] {
        let message = message(1, &peer, "x").into();
        assert!(mapper.message(&message, Origin::News).is_empty());
        assert!(mapper.edited(&message).is_empty());
    }
}
