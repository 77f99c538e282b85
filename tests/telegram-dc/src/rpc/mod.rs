//! The methods of the API: unwrapping, routing and what all of them share.

mod auth;
mod dialogs;
mod media;
mod messages;
mod peers;
mod send;
mod updates;

use grammers_tl_types::{
    self as tl, Cursor, Deserializable, Identifiable, RemoteCall, Serializable, enums, functions as f,
};

use crate::spec::{Peer, Revocation};
use crate::tl::{Refusal, Rpc, bad};
use crate::world::World;

pub(crate) use auth::{check_password, get_password};

/// Who calls, from where.
pub(crate) struct Cx<'a> {
    pub world: &'a mut World,
    pub dc: i32,
    pub key: u32,
    pub conn: u64,
    /// The account logged in, 0 if nobody is.
    pub me: i64,
}

/// A call without its wrappers.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub id: u32,
    pub method: &'static str,
    /// What follows the constructor id.
    pub body: Vec<u8>,
    /// `initConnection` told this: api id, device, app version.
    pub client: Option<(i32, String, String)>,
    pub without_updates: bool,
}

/// Takes the wrappers off a call.
pub(crate) fn unwrap(body: &[u8]) -> Rpc<Call> {
    let malformed = |_| Refusal::new(400, "INPUT_REQUEST_TOO_SHORT");
    let mut cursor = Cursor::from_slice(body);
    let mut client = None;
    let mut without_updates = false;
    for _ in 0..6 {
        let id = u32::deserialize(&mut cursor).map_err(malformed)?;
        match id {
            f::InvokeWithLayer::<()>::CONSTRUCTOR_ID => {
                i32::deserialize(&mut cursor).map_err(malformed)?;
            }
            f::InvokeAfterMsg::<()>::CONSTRUCTOR_ID => {
                i64::deserialize(&mut cursor).map_err(malformed)?;
            }
            f::InvokeWithoutUpdates::<()>::CONSTRUCTOR_ID => without_updates = true,
            f::InitConnection::<()>::CONSTRUCTOR_ID => {
                let read = |cursor: &mut Cursor| -> Result<_, tl::deserialize::Error> {
                    let flags = i32::deserialize(cursor)?;
                    let api_id = i32::deserialize(cursor)?;
                    let device = String::deserialize(cursor)?;
                    let system = String::deserialize(cursor)?;
                    let app = String::deserialize(cursor)?;
                    for _ in 0..3 {
                        String::deserialize(cursor)?;
                    }
                    if flags & 1 != 0 {
                        enums::InputClientProxy::deserialize(cursor)?;
                    }
                    if flags & 2 != 0 {
                        enums::Jsonvalue::deserialize(cursor)?;
                    }
                    Ok((api_id, format!("{device}, {system}"), app))
                };
                client = Some(read(&mut cursor).map_err(malformed)?);
            }
            id => {
                let mut body = Vec::new();
                cursor.read_to_end(&mut body).map_err(malformed)?;
                let method = tl::name_for_id(id);
                return Ok(Call {
                    id,
                    method,
                    body,
                    client,
                    without_updates,
                });
            }
        }
    }
    bad("INPUT_REQUEST_NESTED")
}

/// Methods anybody may call.
fn open_to_all(method: &str) -> bool {
    method.starts_with("auth.") && method != "auth.exportAuthorization"
        || method.starts_with("help.")
        || method.starts_with("langpack.")
        || method == "account.getPassword"
}

/// Whether this caller may call this method at all.
pub(crate) fn admit(world: &mut World, dc: i32, key: u32, method: &str) -> Rpc<i64> {
    let slot = world.slot(dc, key);
    let dead = |why| match why {
        Revocation::Revoked => Refusal::new(401, "SESSION_REVOKED"),
        Revocation::Expired => Refusal::new(401, "SESSION_EXPIRED"),
        Revocation::Deactivated => Refusal::new(401, "USER_DEACTIVATED"),
        Revocation::Duplicated => Refusal::new(406, "AUTH_KEY_DUPLICATED"),
        Revocation::Unregistered | Revocation::Unknown => Refusal::new(401, "AUTH_KEY_UNREGISTERED"),
    };
    if let Some(why) = slot.dead {
        // A key whose login ended can log in again; one that was used twice is lost for good.
        let again = why != Revocation::Duplicated && open_to_all(method);
        return if again || method == "help.getConfig" {
            Ok(0)
        } else {
            Err(dead(why))
        };
    }
    match slot.user {
        Some(user) => Ok(user),
        None if open_to_all(method) => Ok(0),
        None => Err(Refusal::new(401, "AUTH_KEY_UNREGISTERED")),
    }
}

/// Does a call; the answer is the serialised result.
pub(crate) fn dispatch(cx: &mut Cx<'_>, call: &Call) -> Rpc<Vec<u8>> {
    macro_rules! routes {
        ($($method:ty => $handler:path),* $(,)?) => {
            match call.id {
                $( <$method>::CONSTRUCTOR_ID => run(cx, &call.body, $handler), )*
                _ => {
                    tracing::warn!(method = call.method, id = call.id, "method not served");
                    bad("INPUT_METHOD_INVALID")
                }
            }
        };
    }
    routes! {
        f::help::GetConfig => peers::get_config,
        f::help::GetNearestDc => peers::get_nearest_dc,
        f::auth::SendCode => auth::send_code,
        f::auth::ResendCode => auth::resend_code,
        f::auth::CancelCode => auth::cancel_code,
        f::auth::SignIn => auth::sign_in,
        f::auth::LogOut => auth::log_out,
        f::auth::ExportLoginToken => auth::export_login_token,
        f::auth::ImportLoginToken => auth::import_login_token,
        f::auth::ExportAuthorization => auth::export_authorization,
        f::auth::ImportAuthorization => auth::import_authorization,
        f::auth::ResetAuthorizations => auth::reset_authorizations,
        f::account::GetAuthorizations => auth::get_authorizations,
        f::account::ResetAuthorization => auth::reset_authorization,
        f::account::UpdateStatus => peers::update_status,
        f::users::GetUsers => peers::get_users,
        f::users::GetFullUser => peers::get_full_user,
        f::contacts::GetContacts => peers::get_contacts,
        f::contacts::ResolveUsername => peers::resolve_username,
        f::messages::GetChats => peers::get_chats,
        f::messages::GetFullChat => peers::get_full_chat,
        f::channels::GetChannels => peers::get_channels,
        f::channels::GetFullChannel => peers::get_full_channel,
        f::channels::GetParticipants => peers::get_participants,
        f::channels::JoinChannel => peers::join_channel,
        f::channels::LeaveChannel => peers::leave_channel,
        f::messages::GetDialogs => dialogs::get_dialogs,
        f::messages::GetPinnedDialogs => dialogs::get_pinned_dialogs,
        f::messages::GetPeerDialogs => dialogs::get_peer_dialogs,
        f::messages::GetHistory => dialogs::get_history,
        f::messages::GetMessages => dialogs::get_messages,
        f::channels::GetMessages => dialogs::get_channel_messages,
        f::messages::Search => dialogs::search,
        f::messages::SendMessage => send::send_message,
        f::messages::SendMedia => send::send_media,
        f::messages::SendMultiMedia => send::send_multi_media,
        f::messages::ForwardMessages => send::forward_messages,
        f::messages::UploadMedia => media::upload_media,
        f::messages::EditMessage => messages::edit_message,
        f::messages::DeleteMessages => messages::delete_messages,
        f::channels::DeleteMessages => messages::delete_channel_messages,
        f::messages::DeleteHistory => messages::delete_history,
        f::messages::ReadHistory => messages::read_history,
        f::channels::ReadHistory => messages::read_channel_history,
        f::messages::ReadMentions => messages::read_mentions,
        f::messages::ReadMessageContents => messages::read_message_contents,
        f::messages::ReceivedMessages => messages::received_messages,
        f::messages::SetTyping => messages::set_typing,
        f::messages::SendReaction => messages::send_reaction,
        f::messages::GetMessagesReactions => messages::get_messages_reactions,
        f::messages::UpdatePinnedMessage => messages::update_pinned_message,
        f::upload::SaveFilePart => media::save_file_part,
        f::upload::SaveBigFilePart => media::save_big_file_part,
        f::upload::GetFile => media::get_file,
        f::updates::GetState => updates::get_state,
        f::updates::GetDifference => updates::get_difference,
        f::updates::GetChannelDifference => updates::get_channel_difference,
    }
}

fn run<C>(cx: &mut Cx<'_>, body: &[u8], handler: impl FnOnce(&mut Cx<'_>, C) -> Rpc<C::Return>) -> Rpc<Vec<u8>>
where
    C: RemoteCall + Deserializable,
    C::Return: Serializable,
{
    let call = C::from_bytes(body).map_err(|_| Refusal::new(400, "INPUT_FETCH_ERROR"))?;
    handler(cx, call).map(|answer| answer.to_bytes())
}

impl Cx<'_> {
    /// The chat an input peer names, with its access hash checked.
    pub fn peer(&self, peer: &enums::InputPeer) -> Rpc<Peer> {
        let (peer, hash) = match peer {
            enums::InputPeer::Empty => return bad("PEER_ID_INVALID"),
            enums::InputPeer::PeerSelf => (Peer::User(self.me), None),
            enums::InputPeer::Chat(chat) => (Peer::Chat(chat.chat_id), None),
            enums::InputPeer::User(user) => (Peer::User(user.user_id), Some(user.access_hash)),
            enums::InputPeer::Channel(channel) => (Peer::Channel(channel.channel_id), Some(channel.access_hash)),
            enums::InputPeer::UserFromMessage(user) => (Peer::User(user.user_id), None),
            enums::InputPeer::ChannelFromMessage(c) => (Peer::Channel(c.channel_id), None),
        };
        self.check(peer, hash)
    }

    /// The channel an input channel names.
    pub fn channel(&self, channel: &enums::InputChannel) -> Rpc<i64> {
        let (id, hash) = match channel {
            enums::InputChannel::Empty => return bad("CHANNEL_INVALID"),
            enums::InputChannel::Channel(c) => (c.channel_id, Some(c.access_hash)),
            enums::InputChannel::FromMessage(c) => (c.channel_id, None),
        };
        self.check(Peer::Channel(id), hash).map(|_| id)
    }

    /// The person an input user names.
    pub fn user(&self, user: &enums::InputUser) -> Rpc<i64> {
        let (id, hash) = match user {
            enums::InputUser::Empty => return bad("USER_ID_INVALID"),
            enums::InputUser::UserSelf => (self.me, None),
            enums::InputUser::User(user) => (user.user_id, Some(user.access_hash)),
            enums::InputUser::FromMessage(user) => (user.user_id, None),
        };
        self.check(Peer::User(id), hash).map(|_| id)
    }

    fn check(&self, peer: Peer, hash: Option<i64>) -> Rpc<Peer> {
        let me = self.me;
        let right = hash.is_none()
            || !self.world.config.check_access_hashes
            || peer == Peer::User(me)
            || hash == Some(self.world.access_hash(me, peer));
        match peer {
            Peer::User(id) if !right || !self.world.users.contains_key(&id) => bad("PEER_ID_INVALID"),
            Peer::Chat(id) => match self.world.chats.get(&id) {
                Some(chat) if chat.members.contains(&me) => Ok(peer),
                _ => bad("PEER_ID_INVALID"),
            },
            Peer::Channel(id) => match self.world.channels.get(&id) {
                Some(_) if !right => bad("CHANNEL_INVALID"),
                Some(_) => Ok(peer),
                None => bad("CHANNEL_INVALID"),
            },
            Peer::User(_) => Ok(peer),
        }
    }

    /// `CHANNEL_PRIVATE` unless a member.
    pub fn member(&self, channel: i64) -> Rpc<()> {
        if self.world.channel(channel)?.members.contains(&self.me) {
            Ok(())
        } else {
            bad("CHANNEL_PRIVATE")
        }
    }
}
