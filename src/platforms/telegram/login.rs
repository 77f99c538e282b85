//! Logging in: by code and second password, or by a code on the screen. See <https://core.telegram.org/api/auth>.
//!
//! Calls are made raw: some answers that Telegram may give here make grammers' own functions panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grammers_crypto::two_factor_auth::{calculate_2fa, check_p_and_g};
use grammers_session::Session as _;
use grammers_session::types::{PeerAuth, PeerInfo};
use grammers_session::updates::UpdatesLike;
use grammers_tl_types::{RemoteCall, enums, functions, types};
use hub_actors::ExternalId;
use hub_actors::ports::{LoginAnswer, LoginAttempt, LoginDone, LoginError, LoginRequest, LoginStep};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::Parts;
use super::client::{Connected, Opened};
use super::errors::CallError;
use super::session::HubSession;

/// A code on the screen is replaced when so little of its life is left.
const REFRESH_BEFORE: Duration = Duration::from_secs(8);

/// Begins a login with a new session.
///
/// # Errors
/// Why Telegram does not let the person in.
pub(super) async fn begin(
    parts: Arc<Parts>,
    request: LoginRequest,
) -> Result<(Box<dyn LoginAttempt>, LoginStep), LoginError> {
    let session = Arc::new(HubSession::fresh(&parts.config.centers));
    let Opened { connected, updates, .. } = Connected::open(&parts.config, session);
    let is_scanned = Arc::new(AtomicBool::new(false));
    // Ends with the client.
    tokio::spawn(listen(updates, Arc::clone(&is_scanned)));
    let mut login = Login {
        parts,
        connected,
        is_scanned,
        stage: Stage::Over,
    };
    let step = match request {
        LoginRequest::Phone(number) => login.send_code(number).await?,
        LoginRequest::Qr => login.show_code().await?,
    };
    Ok((Box::new(login), step))
}

/// What the person has to do next.
enum Stage {
    Code { number: String, code_hash: String },
    Password,
    Scan { url: String, expires_at: OffsetDateTime },
    Over,
}

struct Login {
    parts: Arc<Parts>,
    connected: Connected,
    /// Telegram said that the code on the screen was scanned.
    is_scanned: Arc<AtomicBool>,
    stage: Stage,
}

#[async_trait]
impl LoginAttempt for Login {
    async fn answer(&mut self, answer: LoginAnswer) -> Result<LoginStep, LoginError> {
        match (&self.stage, answer) {
            (Stage::Code { number, code_hash }, LoginAnswer::Code(code)) => {
                let request = functions::auth::SignIn {
                    phone_number: number.clone(),
                    phone_code_hash: code_hash.clone(),
                    phone_code: Some(code),
                    email_verification: None,
                };
                self.sign_in(&request).await
            }
            (Stage::Password, LoginAnswer::Password(password)) => self.check_password(password).await,
            (Stage::Scan { url, expires_at }, LoginAnswer::Look) => {
                let is_old = self.parts.clock.now() + REFRESH_BEFORE >= *expires_at;
                if is_old || self.is_scanned.swap(false, Ordering::SeqCst) {
                    return self.show_code().await;
                }
                Ok(LoginStep::Qr {
                    url: url.clone(),
                    expires_at: *expires_at,
                })
            }
            (Stage::Password, LoginAnswer::Look) => Ok(LoginStep::Password),
            (Stage::Over, _) => Err(LoginError::Lost),
            _ => Err(LoginError::OutOfTurn),
        }
    }
}

impl Login {
    async fn send_code(&mut self, number: String) -> Result<LoginStep, LoginError> {
        let request = functions::auth::SendCode {
            phone_number: number.clone(),
            api_id: self.parts.config.api_id,
            api_hash: self.parts.config.api_hash.expose_secret().to_owned(),
            settings: types::CodeSettings {
                allow_flashcall: false,
                current_number: false,
                allow_app_hash: false,
                allow_missed_call: false,
                allow_firebase: false,
                unknown_number: false,
                logout_tokens: None,
                token: None,
                app_sandbox: None,
            }
            .into(),
        };
        match self.call_at_home(&request).await? {
            enums::auth::SentCode::Code(types::auth::SentCode {
                r#type: enums::auth::SentCodeType::SetUpEmailRequired(_),
                ..
            }) => Err(LoginError::Refused(
                "this account needs a login e-mail address first: set one up in the Telegram app, or scan a code"
                    .to_owned(),
            )),
            enums::auth::SentCode::Code(sent) => {
                self.stage = Stage::Code {
                    number,
                    code_hash: sent.phone_code_hash,
                };
                Ok(LoginStep::Code)
            }
            enums::auth::SentCode::Success(success) => self.finish(success.authorization),
            enums::auth::SentCode::PaymentRequired(_) => Err(LoginError::Refused(
                "Telegram wants to be paid for a code to this number: scan a code instead".to_owned(),
            )),
        }
    }

    async fn sign_in(&mut self, request: &functions::auth::SignIn) -> Result<LoginStep, LoginError> {
        match self.connected.call(request).await {
            Ok(authorization) => self.finish(authorization),
            Err(error) => self.refused(&error),
        }
    }

    /// Shows a new code, or takes note of what its being scanned has brought.
    async fn show_code(&mut self) -> Result<LoginStep, LoginError> {
        let request = functions::auth::ExportLoginToken {
            api_id: self.parts.config.api_id,
            api_hash: self.parts.config.api_hash.expose_secret().to_owned(),
            except_ids: Vec::new(),
        };
        let mut answer = self.connected.call(&request).await;
        if let Ok(enums::auth::LoginToken::MigrateTo(elsewhere)) = answer {
            self.move_to(elsewhere.dc_id).await?;
            let request = functions::auth::ImportLoginToken { token: elsewhere.token };
            answer = self.connected.call(&request).await;
        }
        match answer {
            Ok(enums::auth::LoginToken::Success(success)) => self.finish(success.authorization),
            Ok(enums::auth::LoginToken::Token(token)) => {
                let url = format!("tg://login?token={}", URL_SAFE_NO_PAD.encode(&token.token));
                let expires_at = OffsetDateTime::from_unix_timestamp(i64::from(token.expires));
                let expires_at = expires_at.unwrap_or_else(|_| self.parts.clock.now());
                self.stage = Stage::Scan {
                    url: url.clone(),
                    expires_at,
                };
                Ok(LoginStep::Qr { url, expires_at })
            }
            Ok(enums::auth::LoginToken::MigrateTo(_)) => Err(LoginError::Unreachable),
            Err(error) => self.refused(&error),
        }
    }

    /// Proves the knowledge of the second password. See <https://core.telegram.org/api/srp>.
    async fn check_password(&mut self, password: String) -> Result<LoginStep, LoginError> {
        // Each proof uses up its challenge, so each try asks for a new one.
        let asked = self.connected.call(&functions::account::GetPassword {}).await;
        let enums::account::Password::Password(challenge) = asked.map_err(|error| login_error(&error))?;
        // A tenth of a second of arithmetic.
        let proof = tokio::task::spawn_blocking(move || prove(challenge, &password)).await;
        let proof = proof.map_err(|_| LoginError::Lost)?.ok_or_else(|| {
            LoginError::Refused("Telegram asks for the password in a way that this hub does not know".to_owned())
        })?;
        let request = functions::auth::CheckPassword { password: proof.into() };
        match self.connected.call(&request).await {
            Ok(authorization) => self.finish(authorization),
            Err(error) => self.refused(&error),
        }
    }

    /// What an error says about the next step.
    fn refused(&mut self, error: &CallError) -> Result<LoginStep, LoginError> {
        if error.is("SESSION_PASSWORD_NEEDED") {
            self.stage = Stage::Password;
            return Ok(LoginStep::Password);
        }
        Err(login_error(error))
    }

    fn finish(&mut self, authorization: enums::auth::Authorization) -> Result<LoginStep, LoginError> {
        let enums::auth::Authorization::Authorization(authorization) = authorization else {
            return Err(LoginError::NotRegistered);
        };
        let enums::User::User(user) = authorization.user else {
            return Err(LoginError::Refused("Telegram did not say who has logged in".to_owned()));
        };
        let name = full_name(user.first_name.as_deref(), user.last_name.as_deref());
        let name = name.or_else(|| user.phone.clone().map(|phone| format!("+{phone}")));
        let session = self.connected.session();
        session.logged_in(user.id);
        let info = PeerInfo::User {
            id: user.id,
            auth: user.access_hash.map(PeerAuth::from_hash),
            bot: Some(user.bot),
            is_self: Some(true),
        };
        session.learn(&info, name.clone());
        self.stage = Stage::Over;
        Ok(LoginStep::Done(Box::new(LoginDone {
            external_id: ExternalId::from(user.id.to_string()),
            name,
            username: user.username,
            memory: session.memory(),
        })))
    }

    /// Asks the data centre that the number belongs to, which Telegram tells when it is another one.
    async fn call_at_home<R: RemoteCall>(&self, request: &R) -> Result<R::Return, LoginError> {
        let error = match self.connected.call(request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let home = error
            .rpc()
            .filter(|error| error.code == 303)
            .and_then(|error| error.value);
        let Some(home) = home.and_then(|home| i32::try_from(home).ok()) else {
            return Err(login_error(&error));
        };
        self.move_to(home).await?;
        self.connected.call(request).await.map_err(|error| login_error(&error))
    }

    async fn move_to(&self, home: i32) -> Result<(), LoginError> {
        let session = self.connected.session();
        match (session.home_dc_id(), session.dc_option(home)) {
            (Ok(old), Ok(Some(_))) => {
                self.connected.disconnect(old);
                session.set_home_dc_id(home).await.map_err(|_| LoginError::Unreachable)
            }
            _ => Err(LoginError::Unreachable),
        }
    }
}

/// Reads what Telegram pushes before anybody has logged in: only that a code was scanned matters.
async fn listen(mut updates: mpsc::Receiver<UpdatesLike>, is_scanned: Arc<AtomicBool>) {
    while let Some(update) = updates.recv().await {
        let scanned = match &update {
            UpdatesLike::Updates(enums::Updates::UpdateShort(short)) => {
                matches!(short.update, enums::Update::LoginToken)
            }
            UpdatesLike::Updates(enums::Updates::Updates(batch)) => is_scan(&batch.updates),
            UpdatesLike::Updates(enums::Updates::Combined(batch)) => is_scan(&batch.updates),
            // It may have been said while the connection was away.
            UpdatesLike::ConnectionClosed => true,
            _ => false,
        };
        if scanned {
            is_scanned.store(true, Ordering::SeqCst);
        }
    }
}

fn is_scan(updates: &[enums::Update]) -> bool {
    updates.iter().any(|update| matches!(update, enums::Update::LoginToken))
}

/// None when the challenge is not one that can be trusted.
fn prove(challenge: types::account::Password, password: &str) -> Option<types::InputCheckPasswordSrp> {
    let enums::PasswordKdfAlgo::Sha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow(way) = challenge.current_algo?
    else {
        return None;
    };
    let (srp_id, server) = (challenge.srp_id?, challenge.srp_b?);
    // Telegram lists exactly these; others make grammers panic.
    if !(2..=7).contains(&way.g) || !check_p_and_g(&way.p, &way.g) {
        return None;
    }
    let own = challenge.secure_random;
    let (m1, a) = calculate_2fa(&way.salt1, &way.salt2, &way.p, &way.g, server, own, password);
    Some(types::InputCheckPasswordSrp {
        srp_id,
        a: a.to_vec(),
        m1: m1.to_vec(),
    })
}

fn full_name(first: Option<&str>, last: Option<&str>) -> Option<String> {
    let parts = [first, last].into_iter().flatten().map(str::trim);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// See the errors of <https://core.telegram.org/method/auth.sendCode>, `auth.signIn` and `auth.checkPassword`.
fn login_error(error: &CallError) -> LoginError {
    if let Some(wait) = error.flood_wait() {
        return LoginError::FloodWait(wait);
    }
    let Some(answer) = error.rpc() else {
        return LoginError::Unreachable;
    };
    match answer.name.as_str() {
        "PHONE_NUMBER_INVALID" | "PHONE_NUMBER_APP_SIGNUP_FORBIDDEN" => LoginError::InvalidPhone,
        "PHONE_NUMBER_BANNED" | "USER_DEACTIVATED" | "USER_DEACTIVATED_BAN" => LoginError::BannedPhone,
        "PHONE_NUMBER_UNOCCUPIED" => LoginError::NotRegistered,
        "PHONE_CODE_INVALID" | "PHONE_CODE_EMPTY" => LoginError::WrongCode,
        "PHONE_CODE_EXPIRED" => LoginError::ExpiredCode,
        "PASSWORD_HASH_INVALID" => LoginError::WrongPassword,
        // The challenge was used up, or the password changed just then.
        "SRP_ID_INVALID" | "SRP_PASSWORD_CHANGED" => LoginError::Unreachable,
        "AUTH_RESTART" | "AUTH_TOKEN_EXPIRED" | "AUTH_TOKEN_INVALID" | "AUTH_KEY_UNREGISTERED" => LoginError::Lost,
        "API_ID_INVALID" | "API_ID_PUBLISHED_FLOOD" => LoginError::NotConfigured(format!(
            "Telegram does not accept this hub's credentials ({}): put your own api_id and api_hash of \
             https://my.telegram.org into platforms.telegram.api_id and platforms.telegram.api_hash",
            answer.name
        )),
        "PHONE_NUMBER_FLOOD" | "PHONE_PASSWORD_FLOOD" => {
            LoginError::Refused("too many tries with this number: try again tomorrow".to_owned())
        }
        _ if answer.code == 500 || answer.code < 0 => LoginError::Unreachable,
        name => LoginError::Refused(name.to_owned()),
    }
}
