//! A hub whose people are all there: nobody registers any more, and they sign in as before.

use hub_actors::Clock;
use messaging_hub::app::Application;
use serde_json::json;

use crate::support::{self, Client, Hub, Kind, PASSWORD};

#[test]
fn a_closed_hub_takes_nobody_new() {
    support::run(async {
        let hub = Hub::start(Kind::Embedded).await;
        let known = hub.user().await;
        let database = hub.stop().await;
        let mut settings = support::settings(&database);
        settings.auth.allow_registration = false;
        let closed = Application::build_with_clock(settings, Clock::system()).await.unwrap();
        let (client, stop) = (Client::new(closed.address()), closed.stop_handle());
        let running = actix_rt::spawn(closed.run_until_stopped());

        let sign_in = |email: &str| json!({ "email": email, "password": PASSWORD });
        let answer = client.post("/api/auth/register", &sign_in("new@example.org")).await;
        assert_eq!(answer.expect(409)["error"]["code"], "REGISTRATION_CLOSED");
        client
            .post("/api/auth/login", &sign_in("new@example.org"))
            .await
            .expect(401);
        client.post("/api/auth/login", &sign_in(&known.email)).await.expect(200);
        stop.stop();
        running.await.unwrap().unwrap();
    });
}
