//! Property tests: no file and no environment makes the reading of settings panic, and each refusal is one line.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::Settings;

const DOCUMENTED: &str = include_str!("../../config.toml");

fn any_value() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 21] = [
        "",
        "0",
        "-1",
        "1e9",
        "true",
        "null",
        "[]",
        "{}",
        "18446744073709551616",
        "9999999999999d",
        "\u{0}",
        ",",
        "embedded",
        "::",
        "2=",
        "postgres://",
        "http://[",
        "\"",
        "0x10",
        "inf",
        "nan",
    ];
    prop_oneof![
        prop::sample::select(&KNOWN[..]).prop_map(str::to_owned),
        "\\PC{0,60}",
        Just("9".repeat(10_000)),
        prop::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter),
    ]
}

/// A key of config.toml, as `section__key`.
fn any_key() -> impl Strategy<Value = String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in DOCUMENTED.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            keys.push(format!("{section}__{key}").replace('.', "__"));
        }
    }
    prop_oneof![8 => prop::sample::select(keys), 1 => "[a-z_]{0,20}", 1 => Just("server".to_owned())]
}

fn check(file: &str, environment: HashMap<String, String>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, file)?;
    if let Err(error) = Settings::from_sources(Some(&path), environment) {
        let text = error.to_string();
        prop_assert!(!text.is_empty() && !text.contains('\n'), "not one line: {text:?}");
        prop_assert!(text.len() < 30_000, "{} bytes", text.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn any_environment_is_taken_or_refused_in_one_line(
        variables in prop::collection::vec((any_key(), any_value()), 1..4),
    ) {
        let variables = variables.into_iter().map(|(key, value)| (format!("HUB__{}", key.to_uppercase()), value));
        check("", variables.collect())?;
    }

    #[test]
    fn any_value_in_the_file_is_taken_or_refused_in_one_line(key in any_key(), value in any_value(), is_text in any::<bool>()) {
        let (section, key) = key.rsplit_once("__").unwrap_or(("server", &key));
        let value = if is_text { format!("{value:?}") } else { value };
        check(&format!("[{}]\n{key} = {value}\n", section.replace("__", ".")), HashMap::new())?;
    }

    #[test]
    fn any_file_is_taken_or_refused_in_one_line(noise in "\\PC{0,100}", place in 0..6_000_usize) {
        let place = DOCUMENTED.floor_char_boundary(place);
        let (before, after) = DOCUMENTED.split_at(place);
        check(&format!("{before}{noise}{after}"), HashMap::new())?;
        check(&noise, HashMap::new())?;
        check(before, HashMap::new())?;
        check(&"[".repeat(10_000), HashMap::new())?;
    }
}
