//! What lives here: supervision. Children report their own end, and are rebuilt from their arguments.
//! Who calls it: the tree, which gives every kind of actor its supervisor.
//! What it may not know: what the children do.

mod backoff;
mod directory;
mod guard;
mod node;
mod supervisor;

pub use backoff::{Backoff, RestartWindow};
pub use guard::{ChildGuard, Exit, install_panic_hook};
pub use node::{Node, NodeState};
pub use supervisor::{ChildSpec, Children};
