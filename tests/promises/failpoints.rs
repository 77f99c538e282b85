//! The list of failpoints and the code cannot differ: what stands in one stands in the other. That each is also hit is
//! asserted where it is used: P1 and P3 go through the list and wait for the process to die at each point.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{By, FAILPOINTS};

const MARK: &str = "fail_point!(\"";

fn names_in(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split(MARK).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn the_list_is_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut in_code = Vec::new();
    names_in(&root.join("src"), &mut in_code);
    names_in(&root.join("actors/src"), &mut in_code);
    let once: BTreeSet<&str> = in_code.iter().map(String::as_str).collect();
    assert_eq!(once.len(), in_code.len(), "a name stands for one place: {in_code:?}");
    let listed: BTreeSet<&str> = FAILPOINTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(once, listed, "left: in the code, right: in tests/support/failpoints.rs");
}

#[test]
fn each_point_at_which_an_actor_panics_is_in_its_test() {
    for (name, by) in FAILPOINTS {
        if let By::Panic(file) = by {
            let test = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            assert!(test.contains(&format!("\"{name}\"")), "{file} does not use {name}");
        }
    }
}
