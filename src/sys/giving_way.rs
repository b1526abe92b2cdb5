//! Threads with a low priority, for work that unauthenticated peers can cause: they use what the machine has left.

use std::{sync::OnceLock, thread::available_parallelism};

use tokio::runtime::{Builder, Handle, Runtime};

/// How far they give way: at 10 a thread gets about a tenth of what one at 0 gets where both want a processor (sched(7)).
const NICE: i32 = 10;

/// Most threads that give way.
const MAX_THREADS: usize = 4;

/// The runtime whose threads give way: as many as there are processors, at most four. It begins with the first use, and lasts
/// as long as the process. `None` where it cannot be made.
#[must_use]
pub fn giving_way() -> Option<&'static Handle> {
    static THREADS: OnceLock<Option<Runtime>> = OnceLock::new();
    let begin = || {
        let give_way = || {
            // On Linux this is the calling thread's alone. One that may not is as good as the others.
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
        // 19 is as far as one can give way.
        assert_eq!((theirs, nice()), ((own + NICE).min(19), own));
    }
}
