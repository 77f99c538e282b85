//! Settings with which the hub does not start: exit code 2 and one line that names what is wrong.

use std::process::{Command, Output, Stdio};

/// Runs the binary in an empty folder with this environment.
fn run(arguments: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    if let Some(text) = file {
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_messaging-hub"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HUB__") {
            command.env_remove(name);
        }
    }
    let command = command
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(folder.path());
    let output = command.stdin(Stdio::null()).output().expect("the binary starts");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), usize::from(file.is_some()), "nothing is made: {left:?}");
    output
}

#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}: {complaint}");
    assert!(complaint.contains(words), "{words} is not in: {complaint}");
    assert!(output.stdout.is_empty());
}

#[test]
fn each_wrong_setting_is_named_with_its_variable() {
    let table = [
        (
            "HUB__SERVER__BIND",
            "nonsense",
            "\"nonsense\" is not an address and port such as",
        ),
        (
            "HUB__SERVER__PORT",
            "1",
            "unknown setting server.port (HUB__SERVER__PORT): server has bind,",
        ),
        (
            "HUB__NOPE__X",
            "1",
            "unknown section nope (HUB__NOPE): there are server,",
        ),
        (
            "HUB__SERVER__PUBLIC_URL",
            "ftp://x",
            "server.public_url (HUB__SERVER__PUBLIC_URL) is ftp://x: it must be",
        ),
        (
            "HUB__SERVER__CORS_ORIGINS",
            "https://a.example/x",
            "is https://a.example/x: it must be a list of origins",
        ),
        (
            "HUB__SERVER__MAX_BODY_BYTES",
            "5",
            "is 5: it must be from 1024 to 104857600",
        ),
        (
            "HUB__SERVER__WORKERS",
            "many",
            "setting server.workers (HUB__SERVER__WORKERS)",
        ),
        (
            "HUB__LIMITS__STRICT_PER_MINUTE",
            "0",
            "is 0: it must be from 1 to 10000000",
        ),
        ("HUB__LIMITS__STANDARD_PER_MINUTE", "-1", "limits.standard_per_minute"),
        (
            "HUB__WEBSOCKET__PING_SECONDS",
            "0",
            "websocket.ping_seconds (HUB__WEBSOCKET__PING_SECONDS) is 0",
        ),
        (
            "HUB__AUTH__ACCESS_TTL",
            "soon",
            "auth.access_ttl (HUB__AUTH__ACCESS_TTL)",
        ),
        (
            "HUB__LOG__FORMAT",
            "xml",
            "\"xml\" is not known: it must be \"text\" or \"json\"",
        ),
        (
            "HUB__FRONTEND__DIST",
            "/nowhere",
            "is /nowhere: it must be a folder that holds index.html",
        ),
        (
            "HUB__DATABASE__URL",
            "postgres://h/x",
            "database.url names an external database, so the keys must be set",
        ),
    ];
    for (name, value, words) in table {
        assert_refused(&run(&[], &[(name, value)], None), words);
    }
}

#[test]
fn a_wrong_secret_is_named_but_never_shown() {
    let table = [
        (
            "HUB__VAULT__KEY",
            "hunter2",
            "vault.key (HUB__VAULT__KEY) is not usable: it must be 32 random bytes",
        ),
        (
            "HUB__AUTH__JWT_SECRET",
            "hunter2",
            "is not usable: it must be at least 32 random characters",
        ),
        (
            "HUB__ADMIN__TOKEN",
            "hunter2",
            "is not usable: it must be at least 16 random characters",
        ),
        (
            "HUB__DATABASE__URL",
            "mysql://u:hunter2@h/x",
            "database.url (HUB__DATABASE__URL) is not usable",
        ),
        ("HUB__REDIS__URL", "http://hunter2@h", "redis.url (HUB__REDIS__URL)"),
    ];
    for (name, value, words) in table {
        let output = run(&[], &[(name, value)], None);
        assert_refused(&output, words);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"), "{name}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let variables = [("HUB__LIMITS__STRICT_PER_MINUTE", "0"), ("HUB__ADMIN__TOKEN", "short")];
    let output = run(&[], &variables, None);
    assert_refused(&output, "limits.strict_per_minute");
    assert_refused(&output, "admin.token");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr).trim_end().lines().count(),
        1,
        "in one line"
    );
}

#[test]
fn a_wrong_file_or_command_line_is_refused() {
    let missing = run(&["--config", "/no/such/file"], &[], None);
    assert_refused(&missing, "cannot read the settings file /no/such/file");
    assert_refused(
        &run(&[], &[], Some("[server]\nbind = \n")),
        "config.toml is not valid TOML, line 2",
    );
    assert_refused(
        &run(&[], &[], Some("[server]\nbnid = \"x\"\n")),
        "unknown setting server.bnid",
    );
    assert_refused(&run(&["--no-such-option"], &[], None), "--no-such-option");
    assert_refused(&run(&["no-such-command"], &[], None), "no-such-command");
    for command in ["migrate", "rotate-key"] {
        let output = run(&[command], &[("HUB__DATABASE__URL", "postgres://h/x")], None);
        assert_refused(&output, "the keys must be set too");
    }
    for command in ["health", "migrate", "rotate-key"] {
        let output = run(&[command], &[("HUB__LIMITS__STRICT_PER_MINUTE", "0")], None);
        assert_refused(&output, "limits.strict_per_minute");
    }
}
