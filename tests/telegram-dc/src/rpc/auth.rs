//! Logging in and out: code, password, QR, other devices.

use std::sync::Arc;

use grammers_tl_types::{self as tl, Deserializable as _, Serializable as _, enums, functions as f};

use super::{Call, Cx};
use crate::server::{Shared, lock};
use crate::spec::{PhoneRule, Revocation};
use crate::srp::{G, Verifier, prime};
use crate::tl::{Refusal, Rpc, bad, now, required};
use crate::world::{Slot, Token, World, digits};

/// Password challenges kept open at once.
const CHALLENGES: usize = 1000;
/// The code of numbers without an account.
const STRANGER_CODE: &str = "12345";

/// `auth.authorization` for `user`.
fn authorization(world: &World, user: i64) -> Rpc<enums::auth::Authorization> {
    let user = world.render_user(user, user)?;
    Ok(required!(tl::types::auth::Authorization; 0_i32, user)?.into())
}

fn log_in(world: &mut World, dc: i32, key: u32, user: i64) -> Rpc<enums::auth::Authorization> {
    let slot = world.slot(dc, key);
    slot.user = Some(user);
    slot.home = true;
    slot.dead = None;
    slot.password_for = None;
    slot.token = None;
    slot.created = now();
    authorization(world, user)
}

/// Logs in, unless the password is still missing.
fn code_was_right(cx: &mut Cx<'_>, user: i64) -> Rpc<enums::auth::Authorization> {
    if cx.world.account(user)?.password.is_some() {
        cx.world.slot(cx.dc, cx.key).password_for = Some(user);
        return Err(Refusal::new(401, "SESSION_PASSWORD_NEEDED"));
    }
    log_in(cx.world, cx.dc, cx.key, user)
}

pub fn send_code(cx: &mut Cx<'_>, call: f::auth::SendCode) -> Rpc<enums::auth::SentCode> {
    new_code(cx, &call.phone_number)
}

pub fn resend_code(cx: &mut Cx<'_>, call: f::auth::ResendCode) -> Rpc<enums::auth::SentCode> {
    new_code(cx, &call.phone_number)
}

fn new_code(cx: &mut Cx<'_>, phone: &str) -> Rpc<enums::auth::SentCode> {
    let phone = digits(phone);
    match cx.world.phones.get(&phone) {
        Some(PhoneRule::Banned) => return bad("PHONE_NUMBER_BANNED"),
        Some(PhoneRule::Invalid) => return bad("PHONE_NUMBER_INVALID"),
        Some(PhoneRule::Flood(seconds)) => {
            return Err(Refusal::new(420, format!("FLOOD_WAIT_{seconds}")));
        }
        Some(PhoneRule::SignUp) | None => {}
    }
    if !(5..=15).contains(&phone.len()) {
        return bad("PHONE_NUMBER_INVALID");
    }
    let number = cx.world.number();
    let hash = format!("{:016x}", cx.world.stable(&[600, number]));
    let expires = now().saturating_add(cx.world.config.code_seconds);
    let length = match cx.world.account_by_phone(&phone) {
        Some(user) => {
            let dc = cx.dc;
            let account = cx.world.account_mut(user)?;
            if account.dc != dc {
                return Err(Refusal::new(303, format!("PHONE_MIGRATE_{}", account.dc)));
            }
            account.code_hash = Some((hash.clone(), expires));
            account.code.len()
        }
        None => {
            if cx.world.stranger_codes.len() > 1000 {
                cx.world.stranger_codes.clear();
            }
            cx.world.stranger_codes.insert(phone, (hash.clone(), expires));
            STRANGER_CODE.len()
        }
    };
    let length = i32::try_from(length).unwrap_or(5);
    let kind: enums::auth::SentCodeType = tl::types::auth::SentCodeTypeApp { length }.into();
    Ok(required!(tl::types::auth::SentCode; 0_i32, kind, hash)?.into())
}

pub fn cancel_code(cx: &mut Cx<'_>, call: f::auth::CancelCode) -> Rpc<bool> {
    if let Some(user) = cx.world.account_by_phone(&call.phone_number) {
        cx.world.account_mut(user)?.code_hash = None;
    }
    Ok(true)
}

pub fn sign_in(cx: &mut Cx<'_>, call: f::auth::SignIn) -> Rpc<enums::auth::Authorization> {
    let phone = digits(&call.phone_number);
    let code = call.phone_code.unwrap_or_default();
    let user = cx.world.account_by_phone(&phone);
    let (expected, asked) = match user {
        Some(user) => {
            let account = cx.world.account(user)?;
            (account.code.clone(), account.code_hash.clone())
        }
        None => (STRANGER_CODE.to_owned(), cx.world.stranger_codes.get(&phone).cloned()),
    };
    if code.is_empty() {
        return bad("PHONE_CODE_EMPTY");
    }
    let valid = |(hash, expires): &(String, i32)| *hash == call.phone_code_hash && *expires > now();
    if !asked.as_ref().is_some_and(valid) {
        return bad("PHONE_CODE_EXPIRED");
    }
    if code != expected {
        return bad("PHONE_CODE_INVALID");
    }
    match user {
        Some(user) => {
            cx.world.account_mut(user)?.code_hash = None;
            code_was_right(cx, user)
        }
        None => Ok(required!(tl::types::auth::AuthorizationSignUpRequired; 0_i32)?.into()),
    }
}

/// `account.getPassword`. Not under the lock: the first time, the verifier has to be computed.
pub async fn get_password(shared: &Shared, dc: i32, key: u32) -> Rpc<Vec<u8>> {
    let (user, password, verifier, hint) = {
        let mut world = lock(shared);
        let slot = world.slot(dc, key);
        let Some(user) = slot.user.or(slot.password_for) else {
            return Err(Refusal::new(401, "AUTH_KEY_UNREGISTERED"));
        };
        let account = world.account(user)?;
        (
            user,
            account.password.clone(),
            account.verifier.clone(),
            account.hint.clone(),
        )
    };
    let random: [[u8; 32]; 8] = std::array::from_fn(|_| rand::random());
    let mut answer = required!(tl::types::account::Password;
        0_i32, enums::PasswordKdfAlgo::Unknown, enums::SecurePasswordKdfAlgo::Unknown,
        random.as_flattened().to_vec())?;
    if let Some(password) = password {
        let made = tokio::task::spawn_blocking(move || {
            let verifier = verifier.unwrap_or_else(|| Arc::new(Verifier::new(&password)));
            let challenge = verifier.challenge();
            (verifier, challenge)
        })
        .await;
        let (verifier, challenge) = made.map_err(|_| Refusal::new(500, "SRP_FAILED"))?;
        let algo = tl::types::PasswordKdfAlgoSha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow {
            salt1: verifier.salt1.clone(),
            salt2: verifier.salt2.clone(),
            g: G,
            p: prime(),
        };
        answer.has_password = true;
        answer.current_algo = Some(algo.into());
        answer.srp_b = Some(challenge.public.clone());
        answer.hint = hint;
        let mut world = lock(shared);
        let id = world.number();
        let id = world.stable(&[700, id]);
        if world.challenges.len() >= CHALLENGES {
            world.challenges.clear();
        }
        world.challenges.insert(id, (user, Arc::new(challenge)));
        world.account_mut(user)?.verifier = Some(verifier);
        answer.srp_id = Some(id);
    }
    Ok(enums::account::Password::from(answer).to_bytes())
}

/// `auth.checkPassword`, computed outside the lock as well.
pub async fn check_password(shared: &Shared, dc: i32, key: u32, call: &Call) -> Rpc<Vec<u8>> {
    let call = f::auth::CheckPassword::from_bytes(&call.body).map_err(|_| Refusal::new(400, "INPUT_FETCH_ERROR"))?;
    let enums::InputCheckPasswordSrp::Srp(proof) = call.password else {
        return bad("PASSWORD_HASH_INVALID");
    };
    let (user, challenge) = {
        let mut world = lock(shared);
        let slot = world.slot(dc, key);
        let Some(user) = slot.password_for else {
            return Err(Refusal::new(401, "AUTH_KEY_UNREGISTERED"));
        };
        match world.challenges.get(&proof.srp_id) {
            Some((owner, challenge)) if *owner == user => (user, Arc::clone(challenge)),
            _ => return bad("SRP_ID_INVALID"),
        }
    };
    let accepted = tokio::task::spawn_blocking(move || challenge.accepts(&proof.a, &proof.m1))
        .await
        .map_err(|_| Refusal::new(500, "SRP_FAILED"))?;
    if !accepted {
        return bad("PASSWORD_HASH_INVALID");
    }
    let mut world = lock(shared);
    world.challenges.remove(&proof.srp_id);
    log_in(&mut world, dc, key, user).map(|answer| answer.to_bytes())
}

pub fn log_out(cx: &mut Cx<'_>, _: f::auth::LogOut) -> Rpc<enums::auth::LoggedOut> {
    let slot = cx.world.slot(cx.dc, cx.key);
    (slot.user, slot.home, slot.password_for, slot.token) = (None, false, None, None);
    Ok(required!(tl::types::auth::LoggedOut; 0_i32)?.into())
}

pub fn export_login_token(cx: &mut Cx<'_>, _: f::auth::ExportLoginToken) -> Rpc<enums::auth::LoginToken> {
    let number = cx.world.number();
    let bytes = cx.world.stable(&[800, number]).to_be_bytes();
    let expires = now().saturating_add(cx.world.config.token_seconds);
    let slot = cx.world.slot(cx.dc, cx.key);
    let scanned = slot
        .token
        .as_ref()
        .and_then(|token| Some((token.scanned?, token.bytes.clone())));
    if let Some((user, token)) = scanned {
        let home = cx.world.account(user)?.dc;
        if home != cx.dc {
            return Ok(tl::types::auth::LoginTokenMigrateTo { dc_id: home, token }.into());
        }
        let authorization = code_was_right(cx, user)?;
        return Ok(tl::types::auth::LoginTokenSuccess { authorization }.into());
    }
    let token = bytes.repeat(4);
    slot.token = Some(Token {
        bytes: token.clone(),
        expires,
        scanned: None,
    });
    Ok(tl::types::auth::LoginToken { expires, token }.into())
}

pub fn import_login_token(cx: &mut Cx<'_>, call: f::auth::ImportLoginToken) -> Rpc<enums::auth::LoginToken> {
    let mut found = cx.world.slots.values().filter_map(|slot| slot.token.as_ref());
    let user = match found.find(|token| token.bytes == call.token) {
        Some(token) if token.expires <= now() => return bad("AUTH_TOKEN_EXPIRED"),
        Some(token) => token.scanned,
        None => return bad("AUTH_TOKEN_INVALID"),
    };
    let Some(user) = user else {
        return bad("AUTH_TOKEN_INVALID");
    };
    let authorization = code_was_right(cx, user)?;
    Ok(tl::types::auth::LoginTokenSuccess { authorization }.into())
}

pub fn export_authorization(
    cx: &mut Cx<'_>,
    call: f::auth::ExportAuthorization,
) -> Rpc<enums::auth::ExportedAuthorization> {
    if !cx.world.config.dcs.iter().any(|(id, _)| *id == call.dc_id) {
        return bad("DC_ID_INVALID");
    }
    let id = cx.world.number();
    if cx.world.exported.len() > 1000 {
        cx.world.exported.clear();
    }
    cx.world.exported.insert(id, (cx.me, call.dc_id));
    let bytes = cx.world.stable(&[900, id]).to_be_bytes().to_vec();
    Ok(tl::types::auth::ExportedAuthorization { id, bytes }.into())
}

pub fn import_authorization(cx: &mut Cx<'_>, call: f::auth::ImportAuthorization) -> Rpc<enums::auth::Authorization> {
    let right = call.bytes == cx.world.stable(&[900, call.id]).to_be_bytes();
    match cx.world.exported.remove(&call.id) {
        Some((user, dc)) if right && dc == cx.dc => {
            let slot = cx.world.slot(cx.dc, cx.key);
            (slot.user, slot.home) = (Some(user), false);
            authorization(cx.world, user)
        }
        _ => bad("AUTH_BYTES_INVALID"),
    }
}

pub fn get_authorizations(cx: &mut Cx<'_>, _: f::account::GetAuthorizations) -> Rpc<enums::account::Authorizations> {
    let world = &*cx.world;
    let mut list: Vec<enums::Authorization> = Vec::new();
    for ((dc, key), slot) in &world.slots {
        if slot.user != Some(cx.me) || !slot.home || slot.dead.is_some() {
            continue;
        }
        let current = (*dc, *key) == (cx.dc, cx.key);
        let hash = if current { 0 } else { world.login_hash(*dc, *key) };
        let text = String::from;
        let mut entry = required!(tl::types::Authorization;
            0_i32, hash, slot.device, text("test"), text("1"), slot.api_id, text("client"),
            slot.app, slot.created, slot.active, text("127.0.0.1"), text("Nowhere"), text(""))?;
        entry.current = current;
        list.push(entry.into());
    }
    let authorization_ttl_days = 180;
    Ok(tl::types::account::Authorizations {
        authorization_ttl_days,
        authorizations: list,
    }
    .into())
}

pub fn reset_authorization(cx: &mut Cx<'_>, call: f::account::ResetAuthorization) -> Rpc<bool> {
    let others = others(cx);
    match others
        .into_iter()
        .find(|(dc, key)| cx.world.login_hash(*dc, *key) == call.hash)
    {
        Some((dc, key)) => {
            cx.world.slot(dc, key).dead = Some(Revocation::Revoked);
            Ok(true)
        }
        None => bad("HASH_INVALID"),
    }
}

pub fn reset_authorizations(cx: &mut Cx<'_>, _: f::auth::ResetAuthorizations) -> Rpc<bool> {
    if cx.me == 0 {
        return Err(Refusal::new(401, "AUTH_KEY_UNREGISTERED"));
    }
    for (dc, key) in others(cx) {
        cx.world.slot(dc, key).dead = Some(Revocation::Revoked);
    }
    Ok(true)
}

/// Other logins of the caller's account.
fn others(cx: &Cx<'_>) -> Vec<(i32, u32)> {
    let mine = |slot: &Slot| slot.user == Some(cx.me) && slot.home;
    cx.world
        .slots
        .iter()
        .filter(|(place, slot)| mine(slot) && **place != (cx.dc, cx.key))
        .map(|(place, _)| *place)
        .collect()
}
