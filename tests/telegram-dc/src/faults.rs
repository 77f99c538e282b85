//! Scripted faults: what the next calls of a method meet instead of a plain answer.

use serde::{Deserialize, Serialize};

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Not done; an RPC error, for example `{"code": 420, "name": "FLOOD_WAIT_3"}`.
    Error {
        /// Error code.
        code: i32,
        /// Error text.
        name: String,
    },
    /// Not done; silence.
    NoAnswer,
    /// Not done; the connection closes.
    Close,
    /// Done; an RPC error all the same.
    DoThenError {
        /// Error code.
        code: i32,
        /// Error text.
        name: String,
    },
    /// Done; silence.
    DoThenNoAnswer,
    /// Done; the connection closes before the answer.
    DoThenClose,
    /// Done at once; the answer comes `ms` later (or never, if the connection is gone by then).
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Done and answered `ms` later.
    DelayThenDo {
        /// Milliseconds.
        ms: u64,
    },
    /// Not done; a bare transport error such as -404 or -429, then the connection closes.
    TransportError {
        /// The negative code.
        code: i32,
    },
    /// Not done; a frame of a session the client does not have.
    WrongSession,
}

/// The next `times` calls of `method`, after letting `skip` pass, meet `fault`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultScript {
    /// Method as in the schema, for example `messages.sendMessage`; `*` = any.
    pub method: String,
    /// How many calls.
    #[serde(default = "one")]
    pub times: u32,
    /// How many calls go through first.
    #[serde(default)]
    pub skip: u32,
    /// Only calls with this key.
    #[serde(default)]
    pub key: Option<u32>,
    /// Only calls of this account.
    #[serde(default)]
    pub account: Option<i64>,
    /// What happens.
    pub fault: Fault,
}

fn one() -> u32 {
    1
}

impl FaultScript {
    /// `fault` for the next call of `method`.
    pub fn next(method: &str, fault: Fault) -> Self {
        Self {
            method: method.into(),
            times: 1,
            skip: 0,
            key: None,
            account: None,
            fault,
        }
    }

    /// For this many calls.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }
}

/// The scripts in force, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FaultScript>);

/// Scripts kept at once.
const CAP: usize = 1000;

impl Faults {
    pub fn add(&mut self, script: FaultScript) -> bool {
        let room = self.0.len() < CAP;
        if room && script.times > 0 {
            self.0.push(script);
        }
        room
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn list(&self) -> Vec<FaultScript> {
        self.0.clone()
    }

    /// The fault for this call, used up.
    pub fn take(&mut self, method: &str, key: u32, account: Option<i64>) -> Option<Fault> {
        let fits = |script: &FaultScript| {
            (script.method == method || script.method == "*")
                && script.key.is_none_or(|wanted| wanted == key)
                && script.account.is_none_or(|wanted| Some(wanted) == account)
        };
        let index = self.0.iter().position(fits)?;
        let script = &mut self.0[index];
        if script.skip > 0 {
            script.skip -= 1;
            return None;
        }
        script.times -= 1;
        let fault = script.fault.clone();
        if script.times == 0 {
            self.0.remove(index);
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_skips_counts_and_ends() {
        let mut faults = Faults::default();
        faults.add(FaultScript {
            skip: 1,
            ..FaultScript::next("ping", Fault::Close).times(2)
        });
        assert_eq!(faults.take("other", 0, None), None);
        assert_eq!(faults.take("ping", 0, None), None);
        assert_eq!(faults.take("ping", 0, None), Some(Fault::Close));
        assert_eq!(faults.take("ping", 0, None), Some(Fault::Close));
        assert_eq!(faults.take("ping", 0, None), None);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_json_form_is_short() {
        let script: FaultScript =
            serde_json::from_str(r#"{"method":"*","fault":{"error":{"code":420,"name":"FLOOD_WAIT_3"}}}"#).unwrap();
        assert_eq!(script.times, 1);
        assert!(matches!(script.fault, Fault::Error { code: 420, .. }));
    }
}
