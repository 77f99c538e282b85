//! What must be true of the checkout itself: the container's build sees all that it needs, and everything that is compiled in
//! has a licence, a source and a name that `deny.toml` allows.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Packages that name no licence and carry its text, which cargo-deny recognises.
const BY_THEIR_TEXT: [(&str, &str); 1] = [("saffron", "BSD-3-Clause")];

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What cargo knows, from the lock file and what is here already.
fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo answers with JSON")
}

fn list(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect()
}

/// Cargo reads the manifest of each member and looks for the file of each of its targets, whatever it is to build.
#[test]
fn the_container_s_build_sees_every_member_of_the_workspace() {
    let ignore = read(".dockerignore");
    let rules: Vec<&str> = ignore.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules.first(), Some(&"*"), "everything is left out but what is named");
    let seen: HashSet<&str> = rules.iter().filter_map(|rule| rule.strip_prefix('!')).collect();
    let metadata = metadata(&["--no-deps"]);
    let root = metadata["workspace_root"].as_str().unwrap();
    let mut needed = vec!["Cargo.lock".to_owned()];
    for package in metadata["packages"].as_array().unwrap() {
        needed.push(package["manifest_path"].as_str().unwrap().to_owned());
        let targets = package["targets"].as_array().unwrap();
        needed.extend(
            targets
                .iter()
                .map(|target| target["src_path"].as_str().unwrap().to_owned()),
        );
    }
    let dockerfile = read("Dockerfile");
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    for copy in copied.filter(|copy| !copy.starts_with("--from=")) {
        let mut words: Vec<&str> = copy.split_whitespace().collect();
        words.pop();
        needed.extend(words.into_iter().filter(|word| *word != ".").map(str::to_owned));
    }
    for path in needed {
        let path = path.strip_prefix(root).unwrap_or(&path).trim_start_matches('/');
        let top = path.split('/').next().unwrap();
        assert!(seen.contains(top), ".dockerignore leaves out {path}");
    }
}

/// What `cargo deny check licenses bans sources` would say, for the platform that this runs on.
#[test]
fn everything_compiled_in_is_allowed() {
    let rules: toml::Table = read("deny.toml").parse().unwrap();
    let rules = serde_json::to_value(rules).unwrap();
    let allowed = list(&rules["licenses"]["allow"]);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = metadata(&["--all-features", "--filter-platform", &target]);
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "cargo lists what is compiled in");
    for package in packages {
        let (name, license) = (package["name"].as_str().unwrap(), package["license"].as_str());
        let by_its_text = || BY_THEIR_TEXT.iter().find(|(package, _)| *package == name);
        let license = license.or_else(|| by_its_text().map(|(_, license)| *license));
        let license = license.unwrap_or_else(|| panic!("{name} names no licence"));
        let mut own = allowed.clone();
        for exception in rules["licenses"]["exceptions"].as_array().unwrap() {
            if exception["crate"] == name {
                own.extend(list(&exception["allow"]));
            }
        }
        assert!(is_allowed(license, &own), "{name}: {license}");
        for ban in rules["bans"]["deny"].as_array().unwrap() {
            assert_ne!(ban["crate"], name, "{}", ban["reason"]);
        }
        let source = package["source"].as_str().unwrap_or("this checkout");
        let is_known = source == "this checkout" || source == "registry+https://github.com/rust-lang/crates.io-index";
        assert!(is_known, "{name} comes from {source}");
    }
}

/// Whether an SPDX expression can be met with these licences (<https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/>);
/// old packages write `/` for `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (result, rest) = any_of(&words, allowed);
    assert!(rest.is_empty(), "{expression} is no expression");
    result
}

fn any_of<'a>(words: &'a [&'a str], allowed: &[&str]) -> (bool, &'a [&'a str]) {
    let (mut result, mut rest) = all_of(words, allowed);
    while let ["OR", more @ ..] = rest {
        let (next, left) = all_of(more, allowed);
        (result, rest) = (result || next, left);
    }
    (result, rest)
}

fn all_of<'a>(words: &'a [&'a str], allowed: &[&str]) -> (bool, &'a [&'a str]) {
    let (mut result, mut rest) = one(words, allowed);
    while let ["AND", more @ ..] = rest {
        let (next, left) = one(more, allowed);
        (result, rest) = (result && next, left);
    }
    (result, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &[&str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => match any_of(inner, allowed) {
            (result, [")", rest @ ..]) => (result, rest),
            _ => panic!("a bracket is open: {words:?}"),
        },
        [license, "WITH", exception, rest @ ..] => {
            let both = format!("{license} WITH {exception}");
            (allowed.contains(&both.as_str()), rest)
        }
        [license, rest @ ..] => (allowed.contains(license), rest),
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND (ISC OR GPL-3.0)", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("GPL-3.0 OR MIT AND ISC", true),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
