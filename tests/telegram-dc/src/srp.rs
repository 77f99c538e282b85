//! The server's half of the two-step password: SRP as Telegram describes it, checked independently of
//! the client's code. The password itself never arrives; the server keeps only the verifier.

use hmac::Hmac;
use num_bigint::BigUint;
use sha2::Sha512;

use crate::crypto::sha256;

/// Telegram's 2048-bit safe prime; clients refuse most others.
const PRIME: &str = "\
c71caeb9c6b1c9048e6c522f70f13f73980d40238e3e21c14934d037563d930f48198a0aa7c14058229493d22530f4db\
fa336f6e0ac925139543aed44cce7c3720fd51f69458705ac68cd4fe6b6b13abdc9746512969328454f18faf8c595f64\
2477fe96bb2a941d5bcd1d4ac8cc49880708fa9b378e3c4f3a9060bee67cf9a4a4a695811051907e162753b56b0f6b41\
0dba74d8a84b2a14b3144e0ef1284754fd17ed950d5965b4b9dd46582db1178d169c6bc465b0d6ff9ca3928fef5b9ae4\
e418fc15e83ebea0f87fa9ff5eed70050ded2849f47bf959d956850ce929851f0d8115f635b105ee2e4e15d04b2454bf\
6f4fadf034b10403119cd8e3b92fcc5b";

/// The generator.
pub const G: i32 = 3;
const ROUNDS: u32 = 100_000;

/// What the server keeps of one password.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// First salt, sent to the client.
    pub salt1: Vec<u8>,
    /// Second salt, sent to the client.
    pub salt2: Vec<u8>,
    v: BigUint,
}

/// One challenge: made for `account.getPassword`, used up by `auth.checkPassword`.
#[derive(Clone, Debug)]
pub struct Challenge {
    verifier: Verifier,
    secret: BigUint,
    /// The public value B, 256 bytes.
    pub public: Vec<u8>,
}

/// The prime as the client receives it.
pub fn prime() -> Vec<u8> {
    padded(&modulus())
}

fn modulus() -> BigUint {
    BigUint::parse_bytes(PRIME.as_bytes(), 16).unwrap_or_default()
}

fn padded(number: &BigUint) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    let mut out = vec![0; 256_usize.saturating_sub(bytes.len())];
    out.extend_from_slice(&bytes);
    out
}

fn salted(data: &[u8], salt: &[u8]) -> [u8; 32] {
    sha256(&[salt, data, salt])
}

fn multiplier(p: &BigUint) -> BigUint {
    let g = padded(&BigUint::from(G as u32));
    BigUint::from_bytes_be(&sha256(&[&padded(p), &g]))
}

impl Verifier {
    /// Makes the verifier of a password. Slow on purpose: run it off the event loop.
    ///
    /// The salts follow from the password, so equal passwords share one verifier.
    pub fn new(password: &str) -> Self {
        let salt1 = sha256(&[b"first salt", password.as_bytes()]).to_vec();
        let salt2 = sha256(&[b"second salt", password.as_bytes()])[..16].to_vec();
        let inner = salted(&salted(password.as_bytes(), &salt1), &salt2);
        let mut stretched = [0; 64];
        // The only failure is an output length PBKDF2 cannot make, and 64 bytes it can.
        let _ = pbkdf2::pbkdf2::<Hmac<Sha512>>(&inner, &salt1, ROUNDS, &mut stretched);
        let x = BigUint::from_bytes_be(&salted(&stretched, &salt2));
        let v = BigUint::from(G as u32).modpow(&x, &modulus());
        Self { salt1, salt2, v }
    }

    /// A fresh challenge.
    pub fn challenge(&self) -> Challenge {
        let p = modulus();
        let seed: [[u8; 32]; 8] = std::array::from_fn(|_| rand::random());
        let secret = BigUint::from_bytes_be(seed.as_flattened());
        let public = (multiplier(&p) * &self.v + BigUint::from(G as u32).modpow(&secret, &p)) % &p;
        Challenge {
            verifier: self.clone(),
            secret,
            public: padded(&public),
        }
    }
}

impl Challenge {
    /// Whether the client's public value and proof come from the right password.
    pub fn accepts(&self, a: &[u8], proof: &[u8]) -> bool {
        let p = modulus();
        let public_a = BigUint::from_bytes_be(a);
        if public_a == BigUint::ZERO || public_a >= p {
            return false;
        }
        let a = padded(&public_a);
        let u = BigUint::from_bytes_be(&sha256(&[&a, &self.public]));
        let base = public_a * self.verifier.v.modpow(&u, &p) % &p;
        let shared = sha256(&[&padded(&base.modpow(&self.secret, &p))]);
        let hash_p = sha256(&[&padded(&p)]);
        let hash_g = sha256(&[&padded(&BigUint::from(G as u32))]);
        let mixed: Vec<u8> = hash_p.iter().zip(hash_g).map(|(p, g)| p ^ g).collect();
        let expected = sha256(&[
            &mixed,
            &sha256(&[&self.verifier.salt1]),
            &sha256(&[&self.verifier.salt2]),
            &a,
            &self.public,
            &shared,
        ]);
        expected[..] == *proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prime_has_2048_bits() {
        assert_eq!(prime().len(), 256);
        assert_eq!(modulus().bits(), 2048);
    }

    #[test]
    fn zero_and_nonsense_are_refused() {
        let challenge = Verifier::new("secret").challenge();
        assert!(!challenge.accepts(&[0; 256], &[0; 32]));
        assert!(!challenge.accepts(&[1; 256], &[0; 32]));
    }
}
