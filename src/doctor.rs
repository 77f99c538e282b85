//! What lives here: checks of everything that a hub needs, each in one line: fine, or what is wrong and what to do.
//! Who calls it: main, for the commands `doctor` and `health`.
//! What it may not know: how any part does its work.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hub_actors::Clock;

use crate::app::master_key;
use crate::cluster;
use crate::settings::{Settings, SettingsError};
use crate::store::{Inspection, is_in_use};

/// A difference of clocks at which tokens and receipts begin to look wrong.
const TOLERABLE_SKEW: time::Duration = time::Duration::seconds(5);
/// Longest wait for the answer of a running hub.
const HEALTH_PATIENCE: Duration = Duration::from_secs(4);

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// What was found: fine, or wrong with what to do.
    pub result: Result<String, String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match &self.result {
            Ok(text) => ("ok   ", text),
            Err(text) => ("WRONG", text),
        };
        write!(formatter, "{mark} {:<9} {text}", self.subject)
    }
}

/// Checks everything, as far as what was found before allows. Changes nothing that a start would not make too.
pub async fn examine(settings: Result<Settings, SettingsError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |subject, result| findings.push(Finding { subject, result });
    let mut settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            note("settings", Err(error.to_string()));
            return findings;
        }
    };
    let mut words = "every value is allowed".to_owned();
    let idle = settings.platforms.without_effect();
    if !idle.is_empty() {
        words.push_str(&format!("; without effect in this version: {}", idle.join(", ")));
    }
    note("settings", Ok(words));
    note("address", address(&settings).await);
    note("folder", folder(&settings.database.path));
    let keys = keys(&mut settings);
    let have_keys = keys.is_ok();
    note("keys", keys);
    match database(&settings).await {
        Ok(Some(inspection)) => {
            note("database", schema(&inspection));
            note("clock", clock(&inspection));
            if have_keys {
                note("vault", vault(&settings, &inspection));
            }
        }
        Ok(None) => note("database", Ok(unopened(&settings))),
        Err(error) => note("database", Err(error)),
    }
    if let Some(url) = &settings.redis.url {
        let answer = cluster::ping(url).await;
        note(
            "redis",
            answer.map(|()| "answers".to_owned()).map_err(|error| {
                format!("{error}. Start Redis or correct redis.url; a hub that is alone on its database needs none")
            }),
        );
    }
    findings
}

async fn address(settings: &Settings) -> Result<String, String> {
    let bind = settings.server.bind;
    match TcpListener::bind(bind) {
        Ok(_) => Ok(format!("{bind} is free")),
        Err(_) if is_healthy(settings).await => Ok(format!("a healthy hub answers on {bind}")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(format!(
            "another program has {bind}: stop it, or choose another server.bind"
        )),
        Err(error) => Err(format!("cannot listen on {bind}: {error}. Choose another server.bind")),
    }
}

fn folder(path: &Path) -> Result<String, String> {
    // The ancestors of a relative path end with an empty one, which stands for the current folder.
    let existing = path
        .ancestors()
        .map(|folder| {
            if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            }
        })
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."));
    let probe = existing.join(format!(".doctor-{:016x}", rand::random::<u64>()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)
        .and_then(|_| fs::remove_file(&probe));
    match written {
        Ok(()) if existing == path => Ok(format!("{} can be written", path.display())),
        Ok(()) => Ok(format!("{} can be made", path.display())),
        Err(error) => Err(format!(
            "cannot write in {}: {error}. Give this user the folder, or set database.path",
            existing.display()
        )),
    }
}

fn keys(settings: &mut Settings) -> Result<String, String> {
    let file = settings.database.secrets_file();
    let is_first_start = settings.database.is_embedded()
        && !file.exists()
        && (settings.vault.key.is_some() || !settings.database.is_made());
    if is_first_start && (settings.auth.jwt_secret.is_none() || settings.vault.key.is_none()) {
        return Ok(format!("will be made at the first start, in {}", file.display()));
    }
    if is_first_start {
        return Ok("configured".to_owned());
    }
    settings.ensure_keys().map_err(|error| error.to_string())?;
    match fs::metadata(&file) {
        Ok(metadata) if settings.database.is_embedded() && metadata.permissions().mode() & 0o077 != 0 => Err(format!(
            "others on this machine can read {0}: run `chmod 600 {0}`",
            file.display()
        )),
        _ => Ok("present".to_owned()),
    }
}

/// None when the embedded database is better left alone: it is in use, or not made yet.
async fn database(settings: &Settings) -> Result<Option<Inspection>, String> {
    if settings.database.is_embedded() {
        let cluster = settings.database.cluster_folder();
        if cfg!(feature = "embedded") && (is_in_use(&cluster) || !settings.database.is_made()) {
            return Ok(None);
        }
    }
    Inspection::make(&settings.database).await.map(Some).map_err(|error| {
        let advice = if settings.database.is_embedded() {
            "look into database.path"
        } else {
            "check that PostgreSQL runs there and that database.url names its host, port, user, password and database"
        };
        format!("{error}: {advice}")
    })
}

fn unopened(settings: &Settings) -> String {
    let cluster = settings.database.cluster_folder();
    if is_in_use(&cluster) {
        format!(
            "{} is in use by a running hub; stop it for a closer look",
            cluster.display()
        )
    } else {
        format!("will be made at the first start, in {}", cluster.display())
    }
}

fn schema(inspection: &Inspection) -> Result<String, String> {
    let Inspection {
        version,
        schema,
        schema_needed: needed,
        ..
    } = inspection;
    if schema > needed {
        return Err(format!(
            "its schema {schema} is from a newer hub, this one knows {needed}: run the newer hub, or restore a backup"
        ));
    }
    let state = match schema {
        0 => "still empty; the start fills it".to_owned(),
        schema if schema < needed => format!("schema {schema}, which the start brings to {needed}"),
        schema => format!("schema {schema}"),
    };
    Ok(format!("PostgreSQL {version} answers, {state}"))
}

fn clock(inspection: &Inspection) -> Result<String, String> {
    let skew = (Clock::system().now() - inspection.now).abs();
    let seconds = skew.as_seconds_f64();
    if skew > TOLERABLE_SKEW {
        Err(format!(
            "differs from the database's by {seconds:.1} s: let both machines follow a time server (NTP)"
        ))
    } else {
        Ok(format!("differs from the database's by {seconds:.1} s"))
    }
}

fn vault(settings: &Settings, inspection: &Inspection) -> Result<String, String> {
    if inspection.sealed_keys.is_empty() {
        return Ok("nothing is sealed yet".to_owned());
    }
    let master = master_key(settings).map_err(|error| error.to_string())?;
    match inspection
        .sealed_keys
        .iter()
        .find(|(id, sealed)| master.open_data_key(*id, sealed).is_err())
    {
        None => Ok("vault.key opens what is sealed".to_owned()),
        Some((id, _)) => Err(format!(
            "vault.key does not open key {id} of this database: set the one that the database was made with, or name it in \
             vault.previous_keys"
        )),
    }
}

/// Asks the hub that should run with these settings whether it and its database are well.
pub async fn is_healthy(settings: &Settings) -> bool {
    let bind = settings.server.bind;
    let here = match bind.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}/health", SocketAddr::new(here, bind.port()));
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(HEALTH_PATIENCE).build() else {
        return false;
    };
    client
        .get(url)
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[actix_rt::test]
    async fn wrong_settings_end_the_report() {
        let error = Settings::load(Some(Path::new("/no/such/file.toml")));
        let findings = examine(error).await;
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().starts_with("WRONG settings"), "{}", findings[0]);
    }

    #[actix_rt::test]
    async fn a_fresh_machine_is_fine_and_stays_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.platforms.slack.client_id = Some("1".to_owned());
        settings.server.bind = SocketAddr::from(([127, 0, 0, 1], 0));
        settings.database.path = folder.path().join("data");
        let findings = examine(Ok(settings)).await;
        assert!(findings.iter().all(|finding| finding.result.is_ok()), "{findings:?}");
        assert!(
            findings[0]
                .to_string()
                .ends_with("without effect in this version: platforms.slack")
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[actix_rt::test]
    async fn what_is_missing_is_named() {
        let mut settings = Settings::default();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        settings.server.bind = taken.local_addr().unwrap();
        settings.database.url = SecretString::from("postgres://hub:canary@127.0.0.1:1/hub");
        settings.redis.url = Some(SecretString::from("redis://:canary@127.0.0.1:1/"));
        let report: Vec<_> = examine(Ok(settings)).await.iter().map(ToString::to_string).collect();
        for start in ["WRONG address", "WRONG keys", "WRONG database", "WRONG redis"] {
            assert!(report.iter().any(|line| line.starts_with(start)), "{start}: {report:?}");
        }
        assert!(!report.concat().contains("canary"), "{report:?}");
    }

    #[test]
    fn a_schema_from_the_future_is_wrong() {
        let mut inspection = Inspection {
            version: "15.1".to_owned(),
            now: Clock::system().now(),
            schema: 7,
            schema_needed: 6,
            sealed_keys: Vec::new(),
        };
        assert!(schema(&inspection).is_err());
        inspection.schema = 5;
        assert!(schema(&inspection).is_ok());
        assert!(clock(&inspection).is_ok());
        inspection.now += time::Duration::minutes(1);
        assert!(clock(&inspection).is_err());
    }
}
