//! `-b`: groups of tasks with the same output, live on a terminal and in full at the end. The master computes
//! the groups; this client fetches the output of one task for each of them.

mod outputs;
mod rows;
mod watcher;

use self::watcher::Watcher;
pub(super) use self::watcher::watch;
