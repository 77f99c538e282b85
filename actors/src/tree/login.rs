//! Logins to platforms whose accounts are held open, as HTTP handlers see them.

use std::time::Duration;

use super::Tree;
use crate::ids::{LoginId, PlatformId, UserId};
use crate::login::{self, LoginProgress};
use crate::mailbox::answer;
use crate::ports::{LoginAnswer, LoginError, LoginRequest};

/// Longer than a step may take.
const LOGIN_PATIENCE: Duration = Duration::from_secs(55);

impl Tree {
    /// Begins to link an account. A newer login with the same phone number ends the older one, and a fourth one of a person
    /// ends the oldest.
    ///
    /// # Errors
    /// [`LoginError`]; there is no such login then.
    pub async fn begin_login(
        &self,
        user_id: UserId,
        platform: PlatformId,
        request: LoginRequest,
    ) -> Result<(LoginId, LoginProgress), LoginError> {
        let id = LoginId::generate(self.hub.clock.now());
        for replaced in self.hub.logins_under_way.add(id, user_id, &request)? {
            if let Some(login) = self.hub.logins.find(&replaced) {
                login.insist(login::Command::Stop);
            }
        }
        let begun = self.begin(id, user_id, platform, request).await;
        if begun.is_err() {
            self.hub.logins_under_way.remove(id);
        }
        begun.map(|progress| (id, progress))
    }

    async fn begin(
        &self,
        id: LoginId,
        user_id: UserId,
        platform: PlatformId,
        request: LoginRequest,
    ) -> Result<LoginProgress, LoginError> {
        let begin = |reply| login::Command::Begin {
            user_id,
            platform,
            request,
            reply,
        };
        let asked = self.hub.logins.ask(&id, LOGIN_PATIENCE, begin);
        asked.await.map_err(|_| LoginError::Lost)?
    }

    /// The person's next step in a login; with [`LoginAnswer::Look`] how far it has come.
    ///
    /// # Errors
    /// [`LoginError`]; `Lost` also for a login of somebody else.
    pub async fn answer_login(
        &self,
        user_id: UserId,
        id: LoginId,
        step: LoginAnswer,
    ) -> Result<LoginProgress, LoginError> {
        let login = self.hub.logins.find(&id).ok_or(LoginError::Lost)?;
        let command = |reply| login::Command::Answer {
            user_id,
            answer: step,
            reply,
        };
        let receiver = login.ask(command).map_err(|_| LoginError::Lost)?;
        answer(receiver, LOGIN_PATIENCE).await.map_err(|_| LoginError::Lost)?
    }
}
