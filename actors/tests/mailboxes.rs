//! Mailboxes and their actors, as those who find them meet them: what is full, and what crashed too often.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, WrapFuture};
use actix_rt::Arbiter;
use hub_actors::mailbox::{CallError, Letter, Receiver};
use hub_actors::supervise::{ChildGuard, ChildSpec, Children, install_panic_hook};
use tokio::sync::oneshot;

/// An actor that takes nothing before it is let, and notes what it takes then.
struct Sleeper {
    wakes: Option<oneshot::Receiver<()>>,
    taken: Arc<Mutex<Vec<usize>>>,
    _guard: ChildGuard,
}

struct SleeperSpec {
    wakes: Mutex<Option<oneshot::Receiver<()>>>,
    taken: Arc<Mutex<Vec<usize>>>,
}

impl ChildSpec for SleeperSpec {
    type Key = u32;
    type Child = Sleeper;
    const PATH: &'static str = "sleeper";
    const MAILBOX: usize = 3;

    fn build(&self, _key: &u32, guard: ChildGuard) -> Sleeper {
        Sleeper {
            wakes: self.wakes.lock().unwrap().take(),
            taken: Arc::clone(&self.taken),
            _guard: guard,
        }
    }
}

impl Actor for Sleeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let wakes = self.wakes.take().unwrap();
        let sleep = async move { drop(wakes.await) };
        context.wait(sleep.into_actor(self));
    }
}

impl Receiver for Sleeper {
    type Command = Option<usize>;

    fn stop() -> Option<usize> {
        None
    }
}

impl Handler<Letter<Option<usize>>> for Sleeper {
    type Result = ();

    fn handle(&mut self, letter: Letter<Option<usize>>, context: &mut Self::Context) {
        match letter.open() {
            Some(number) => self.taken.lock().unwrap().push(number),
            None => context.stop(),
        }
    }
}

#[actix_rt::test]
async fn a_full_mailbox_takes_nothing_but_what_must_not_be_lost() {
    let (wake, wakes) = oneshot::channel();
    let taken = Arc::default();
    let spec = SleeperSpec {
        wakes: Mutex::new(Some(wakes)),
        taken: Arc::clone(&taken),
    };
    let arbiter = Arbiter::new();
    let children = Children::start(spec, vec![arbiter.handle()]);
    children.get(&0).await.unwrap();
    // Found anew for every command, as everybody does.
    let find = || children.find(&0).unwrap();
    let told: Vec<_> = (0..10).map(|number| find().tell(Some(number))).collect();
    assert!(told[..3].iter().all(Result::is_ok), "{told:?}");
    assert!(told[3..].iter().all(|told| *told == Err(CallError::Full)), "{told:?}");
    find().insist(Some(10));
    assert_eq!((find().depth(), children.nodes().await[0].mailbox_depth), (4, 4));
    let release = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        wake.send(()).unwrap();
    };
    tokio::join!(children.stop(Duration::from_secs(10)), release);
    assert_eq!(children.count(), 0, "it was told to stop although it was full");
    assert_eq!(*taken.lock().unwrap(), [0, 1, 2, 10]);
    arbiter.stop();
}

/// An actor that crashes when it is told to.
struct Fragile(#[expect(dead_code, reason = "dropping it tells the parent")] ChildGuard);

struct FragileSpec(Arc<Mutex<Vec<&'static str>>>);

impl ChildSpec for FragileSpec {
    type Key = u32;
    type Child = Fragile;
    const PATH: &'static str = "fragile";
    const MAILBOX: usize = 3;
    const STOPPED_FOR: Duration = Duration::from_millis(100);

    fn build(&self, _key: &u32, guard: ChildGuard) -> Fragile {
        Fragile(guard)
    }

    fn gave_up(&self, _key: &u32, _error: &str) {
        self.0.lock().unwrap().push("gave up");
    }

    fn came_back(&self, _key: &u32) {
        self.0.lock().unwrap().push("came back");
    }
}

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Receiver for Fragile {
    type Command = bool;

    fn stop() -> bool {
        false
    }
}

impl Handler<Letter<bool>> for Fragile {
    type Result = ();

    fn handle(&mut self, letter: Letter<bool>, context: &mut Self::Context) {
        assert!(!letter.open(), "on purpose");
        context.stop();
    }
}

#[actix_rt::test]
async fn who_crashed_too_often_is_stopped_for_a_while_and_comes_back() {
    install_panic_hook();
    let told = Arc::default();
    let arbiter = Arbiter::new();
    let children = Children::start(FragileSpec(Arc::clone(&told)), vec![arbiter.handle()]);
    let crash = async || {
        let child = children.get(&0).await?;
        child.tell(true)?;
        while child.is_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, CallError>(())
    };
    for _ in 0..6 {
        assert_eq!(crash().await, Ok(()));
    }
    let refused = children.get(&0).await.err();
    assert_eq!(
        (refused, told.lock().unwrap().as_slice()),
        (Some(CallError::GaveUp), ["gave up"].as_slice())
    );
    tokio::time::sleep(FragileSpec::STOPPED_FOR).await;
    assert!(children.get(&0).await.is_ok());
    assert_eq!(*told.lock().unwrap(), ["gave up", "came back"]);
    // And when somebody has mended it meanwhile, at once.
    for _ in 0..6 {
        assert_eq!(crash().await, Ok(()));
    }
    assert_eq!(children.get(&0).await.err(), Some(CallError::GaveUp));
    children.reset(|key| *key == 0);
    assert!(children.get(&0).await.is_ok());
    children.stop(Duration::from_secs(10)).await;
    arbiter.stop();
}
