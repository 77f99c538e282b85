//! What Telegram reports rather than a person says, as plain sentences.

use grammers_session::types::PeerId;
use grammers_tl_types::enums::MessageAction;

use super::peers;
use super::session::HubSession;

/// The sentence for an action of `actor`; none for what is not worth a line.
pub(super) fn sentence(session: &HubSession, actor: Option<PeerId>, action: &MessageAction) -> Option<String> {
    let who = actor.and_then(|id| peers::name(session, id));
    let who = who.unwrap_or_else(|| "Somebody".to_owned());
    let person = |id: i64| {
        let name = PeerId::user(id).and_then(|id| peers::name(session, id));
        name.unwrap_or_else(|| "somebody".to_owned())
    };
    let people = |ids: &[i64]| ids.iter().map(|id| person(*id)).collect::<Vec<_>>().join(", ");
    let is_actor = |id: i64| actor.is_some() && PeerId::user(id) == actor;
    Some(match action {
        MessageAction::Empty | MessageAction::HistoryClear => return None,
        MessageAction::ChatCreate(action) => format!("{who} created the group “{}”", action.title),
        MessageAction::ChannelCreate(action) => format!("“{}” was created", action.title),
        MessageAction::ChatEditTitle(action) => format!("{who} changed the title to “{}”", action.title),
        MessageAction::ChatEditPhoto(_) => format!("{who} changed the picture"),
        MessageAction::ChatDeletePhoto => format!("{who} removed the picture"),
        MessageAction::ChatAddUser(action) => match action.users.as_slice() {
            [user] if is_actor(*user) => format!("{who} joined"),
            users => format!("{who} added {}", people(users)),
        },
        MessageAction::ChatDeleteUser(action) if is_actor(action.user_id) => format!("{who} left"),
        MessageAction::ChatDeleteUser(action) => format!("{who} removed {}", person(action.user_id)),
        MessageAction::ChatJoinedByLink(_) => format!("{who} joined by a link"),
        MessageAction::ChatJoinedByRequest => format!("{who} was let in"),
        MessageAction::ChatJoinedViaCommunity(_) => format!("{who} joined through a community"),
        MessageAction::ChatMigrateTo(_) => "The group became a supergroup".to_owned(),
        MessageAction::ChannelMigrateFrom(action) => format!("The group “{}” became this supergroup", action.title),
        MessageAction::PinMessage => format!("{who} pinned a message"),
        MessageAction::ContactSignUp => format!("{who} joined Telegram"),
        MessageAction::ScreenshotTaken => format!("{who} took a screenshot"),
        MessageAction::PhoneCall(call) => {
            let kind = if call.video { "video call" } else { "call" };
            match call.duration {
                Some(seconds) => format!("{who} made a {kind} of {seconds} seconds"),
                None => format!("{who} made a {kind} that was not answered"),
            }
        }
        MessageAction::GroupCall(call) => match call.duration {
            Some(seconds) => format!("A group call ended after {seconds} seconds"),
            None => format!("{who} started a group call"),
        },
        MessageAction::InviteToGroupCall(action) => format!("{who} invited {} to a group call", people(&action.users)),
        MessageAction::GroupCallScheduled(_) => format!("{who} scheduled a group call"),
        MessageAction::ConferenceCall(_) => format!("{who} started a call"),
        MessageAction::SetMessagesTtl(action) if action.period == 0 => {
            format!("{who} switched off the deletion of messages")
        }
        MessageAction::SetMessagesTtl(action) => {
            format!("{who} lets messages be deleted after {} seconds", action.period)
        }
        MessageAction::SetChatTheme(_) => format!("{who} changed the theme"),
        MessageAction::SetChatWallPaper(_) => format!("{who} changed the wallpaper"),
        MessageAction::TopicCreate(action) => format!("{who} created the topic “{}”", action.title),
        MessageAction::TopicEdit(_) => format!("{who} changed the topic"),
        MessageAction::CustomAction(action) => action.message.clone(),
        MessageAction::GameScore(action) => format!("{who} scored {} points", action.score),
        MessageAction::ChangeCreator(action) => format!("{} owns this chat now", person(action.new_creator_id)),
        other => {
            tracing::debug!(action = constructor(other), "an action of Telegram has no sentence");
            "Something happened that this hub cannot show".to_owned()
        }
    })
}

/// The name of a constructor, without what it holds.
pub(super) fn constructor<T: grammers_tl_types::Serializable>(object: &T) -> &'static str {
    let bytes = object.to_bytes();
    let number = bytes.first_chunk().map_or(0, |number| u32::from_le_bytes(*number));
    grammers_tl_types::name_for_id(number)
}
