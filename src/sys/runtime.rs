//! The runtime of a process that serves for a long time. Knows nothing of what runs on it.

use std::{io, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// How often a thread for blocking work gets work. A runtime ends such a thread when it had none for ten
/// seconds.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Builds the runtime of a daemon, and always keeps one thread for blocking work.
///
/// A machine without free process ids cannot start another one, and a runtime without such a thread panics when
/// it gets blocking work, instead of queueing it.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn daemon_runtime(builder: &mut Builder) -> io::Result<Runtime> {
    let runtime = builder.enable_all().build()?;
    drop(runtime.spawn_blocking(|| ()));
    // It ends with the runtime.
    runtime.spawn(async {
        loop {
            tokio::time::sleep(KEEP_INTERVAL).await;
            // A task of its own: after a stop of the whole process the thread may be gone.
            let _ = tokio::spawn(async { tokio::task::spawn_blocking(|| ()).await }).await;
        }
    });
    Ok(runtime)
}
