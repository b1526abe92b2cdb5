//! The runtime of a process that serves for a long time. Knows nothing of what runs on it.

use std::{io, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// How long a thread for blocking work is kept while it has no work: practically for ever.
const KEPT: Duration = Duration::from_hours(24 * 365);

/// Builds the runtime of a daemon, and starts its first thread for blocking work.
///
/// That thread is never given up. A machine without free process ids cannot start another one, and a runtime
/// without such a thread panics when it gets blocking work, instead of queueing it.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn daemon_runtime(builder: &mut Builder) -> io::Result<Runtime> {
    let runtime = builder.enable_all().thread_keep_alive(KEPT).build()?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}
