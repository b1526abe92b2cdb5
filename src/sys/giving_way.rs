//! Threads with a low priority, for work that unauthenticated peers can cause. They get little processor time
//! when other threads need it.

use std::{sync::OnceLock, thread::available_parallelism};

use tokio::runtime::{Builder, Handle, Runtime};

/// Increment of the nice value: a thread at 10 gets about a tenth of the time of a thread at 0 when both
/// compete for a processor (sched(7)).
const NICE: i32 = 10;

/// Maximum number of low-priority threads.
const MAX_THREADS: usize = 4;

/// Returns the runtime with low-priority threads: one for each processor, at most four. It starts at the
/// first call and lives as long as the process. `None` if it cannot be created.
#[must_use]
pub(crate) fn giving_way() -> Option<&'static Handle> {
    static THREADS: OnceLock<Option<Runtime>> = OnceLock::new();
    let begin = || {
        let give_way = || {
            // On Linux this applies only to the calling thread. If it fails, the thread works with normal
            // priority.
            let _ = rustix::process::nice(NICE);
        };
        let count = available_parallelism().map_or(1, |count| count.get().min(MAX_THREADS));
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(count).thread_name("gives-way").on_thread_start(give_way).build().ok()
    };
    THREADS.get_or_init(begin).as_ref().map(Runtime::handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_its_own_threads_give_way() {
        let nice = || rustix::process::nice(0).unwrap();
        let own = nice();
        let theirs = giving_way().unwrap().spawn(async move { nice() }).await.unwrap();
        // 19 is the highest nice value.
        assert_eq!((theirs, nice()), ((own + NICE).min(19), own));
    }
}
