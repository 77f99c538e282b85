//! How a parent learns that a child has ended.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// In good order.
    Stopped,
    /// It panicked, with this message.
    Crashed(String),
}

/// Held by a child for as long as it lives. However it ends, also by a panic, dropping the guard tells its parent.
///
/// actix's own `Supervisor` does not survive a panic: the actor's future is dropped while the thread unwinds. That
/// drop is what the guard makes use of.
pub struct ChildGuard {
    report: Option<Box<dyn FnOnce(Exit) + Send>>,
}

impl ChildGuard {
    /// A guard that calls `report` once, when it is dropped.
    pub fn new(report: impl FnOnce(Exit) + Send + 'static) -> Self {
        Self {
            report: Some(Box::new(report)),
        }
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let exit = if std::thread::panicking() {
            Exit::Crashed(last_panic())
        } else {
            Exit::Stopped
        };
        if let Some(report) = self.report.take() {
            report(exit);
        }
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn last_panic() -> String {
    LAST_PANIC
        .with(|last| last.borrow_mut().take())
        .unwrap_or_else(|| "panicked".to_owned())
}

/// Only a constant text is repeated: one that was put together may quote a message.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = info
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("panicked");
    match info.location() {
        Some(location) => format!("{text} at {}:{}", location.file(), location.line()),
        None => text.to_owned(),
    }
}

/// Makes panics tell their message to the guard of the child that panics, and logs one line for each.
pub fn install_panic_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let default_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = describe(info);
            if tracing::dispatcher::has_been_set() {
                tracing::error!(panic = %text, "a part of the hub panicked");
            } else {
                default_hook(info);
            }
            LAST_PANIC.with(|last| {
                if let Ok(mut last) = last.try_borrow_mut() {
                    *last = Some(text);
                }
            });
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_guard_tells_a_crash_from_a_stop() {
        install_panic_hook();
        let (sender, receiver) = mpsc::sync_channel(1);
        let also = sender.clone();
        drop(ChildGuard::new(move |exit| also.send(exit).unwrap()));
        assert_eq!(receiver.recv().unwrap(), Exit::Stopped);
        let crash = std::thread::spawn(move || {
            let _guard = ChildGuard::new(move |exit| sender.send(exit).unwrap());
            panic!("on purpose");
        });
        assert!(crash.join().is_err());
        match receiver.recv().unwrap() {
            Exit::Crashed(text) => assert!(text.starts_with("on purpose at "), "{text}"),
            Exit::Stopped => panic!("a crash was reported as a stop"),
        }
    }
}
