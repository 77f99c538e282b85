//! The hub under attack: the real binary, on a real PostgreSQL.

use std::future::Future;

use actix_rt::SystemRunner;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use serde_json::Value;

use crate::support::{self, ADMIN_TOKEN, Client, Database, Kind, Process};

/// Resident memory that the hub may never exceed in these tests, unless one says otherwise. A debug build begins at
/// about 60 MiB.
pub const MEMORY_CEILING: u64 = 256 * 1024 * 1024;

/// How a case ends: well, or with what was wrong.
pub type Outcome = Result<(), String>;

/// A hub, and the runtime of those who attack it. The hub ends before its database does.
pub struct Target {
    system: SystemRunner,
    pub hub: Process,
    pub database: Database,
}

impl Target {
    /// Starts a hub.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a hub with other settings, as environment variables.
    pub fn start_with(variables: &[(&str, &str)]) -> Self {
        let system = actix_rt::System::new();
        let (hub, database) = system.block_on(async {
            let database = Database::fresh(Kind::Postgres).await;
            (Process::start_with(&database, variables).await, database)
        });
        Self { system, hub, database }
    }

    /// Works until the future is done.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.system.block_on(work)
    }

    /// A client of a new user.
    pub async fn user(&self) -> Client {
        let mut client = self.hub.client();
        client.register().await;
        client
    }

    /// Tries random cases and shrinks one that ends badly.
    pub fn try_all<S: Strategy>(&self, cases: u32, strategy: &S, test: impl AsyncFn(S::Value) -> Outcome) {
        let (cases, seed) = if support::is_long() {
            (cases.saturating_mul(100), support::seed())
        } else {
            (cases, 1)
        };
        let config = Config {
            cases,
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            max_shrink_iters: 200,
            ..Config::default()
        };
        let outcome = TestRunner::new(config).run(strategy, |value| self.run(test(value)).map_err(TestCaseError::fail));
        if let Err(error) = outcome {
            panic!("seed {seed}: {error}");
        }
    }

    /// No part of the hub has panicked, none was started again, and its memory is bounded.
    pub fn assert_well(&self) {
        self.assert_well_below(MEMORY_CEILING);
    }

    /// As [`Target::assert_well`], with another bound.
    pub fn assert_well_below(&self, ceiling: u64) {
        self.run(async {
            let log = self.hub.log();
            let fault = log
                .lines()
                .find(|line| line.contains("panicked") || line.contains("ERROR"));
            assert_eq!(fault, None);
            let mut operator = self.hub.client();
            operator.token = Some(ADMIN_TOKEN.to_owned());
            let tree = operator.get("/api/admin/tree").await.expect(200);
            let restarted: Vec<&Value> = nodes(&tree).filter(|node| node["restarts"] != 0).collect();
            assert!(restarted.is_empty(), "{restarted:#?}");
            assert!(nodes(&tree).all(|node| node["state"] == "running"), "{tree:#}");
            let resident = self.hub.resident_bytes();
            println!("{} MiB resident at the end", resident >> 20);
            assert!(resident < ceiling, "{} MiB resident", resident >> 20);
        });
    }
}

fn nodes(tree: &Value) -> impl Iterator<Item = &Value> {
    tree["nodes"].as_array().expect("nodes").iter()
}
