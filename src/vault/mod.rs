//! What lives here: sealing at rest with key ids, readers of the two older formats, passwords, tokens, secret comparison.
//! Who calls it: the store seals and opens rows with it; http and ws check passwords and tokens with it.
//! What it may not know: SQL, HTTP, actors, platforms; it is handed keys and places and knows nothing of where they come from.

mod data_keys;
pub mod legacy;
pub mod passwords;
mod place;
mod ring;
pub mod tokens;

pub use data_keys::{DataKey, KeyError, MasterKey};
pub use place::Place;
pub use ring::{SealError, Vault};

use subtle::ConstantTimeEq;

/// Compares two secrets without telling by its duration where they differ. Only their lengths show.
pub fn secrets_match(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// How property tests of sealed values run: always the same cases.
#[cfg(test)]
fn hostile_cases() -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: 500,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_match_only_when_equal() {
        assert!(secrets_match(b"token", b"token"));
        assert!(!secrets_match(b"token", b"tokem"));
        assert!(!secrets_match(b"token", b"token2"));
        assert!(!secrets_match(b"", b"token"));
    }
}
