//! Logs to standard error in the foreground, and to a daily file with `--daemon`. The size of the log is limited.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::MakeWriter};

pub(crate) use super::log_format::LogFormat;
use super::log_volume::Bounded;

/// Number of daily files of a daemon's log that are kept.
const KEPT_FILES: usize = 14;

/// Why a log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    /// The level is not understood.
    #[error("{0:?} is not a log level: use error, warn, info or debug, or a tracing filter")]
    Level(String),
    /// The file cannot be created.
    #[error("cannot write the log into {0}: {1}")]
    File(String, String),
}

fn install<W>(level: &str, format: LogFormat, writer: W, colour: bool) -> Result<(), LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(level).map_err(|_| LoggingError::Level(level.to_owned()))?;
    let is_detailed = filter.max_level_hint().is_none_or(|level| level > LevelFilter::INFO);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(colour)
        // Otherwise the library prints each failed write on standard error, which may be the control center's screen.
        .log_internal_errors(false)
        .with_writer(Bounded::new(writer, format, is_detailed));
    // A second daemon in the same process (in the demo) uses the log of the first.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Logs to standard error.
///
/// # Errors
/// When the level is not understood.
pub(crate) fn to_stderr(level: &str, format: LogFormat) -> Result<(), LoggingError> {
    let colour = io::IsTerminal::is_terminal(&io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    install(level, format, io::stderr, colour)
}

/// A log in files, which can be reopened.
#[derive(Clone, Debug)]
struct Files {
    directory: PathBuf,
    name: String,
    appender: Arc<Mutex<RollingFileAppender>>,
}

/// The log files of this process; unset if it logs to standard error.
static FILES: OnceLock<Files> = OnceLock::new();

impl Files {
    fn appender(directory: &Path, name: &str) -> Result<RollingFileAppender, LoggingError> {
        RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix(name)
            .filename_suffix("log")
            .max_log_files(KEPT_FILES)
            .build(directory)
            .map_err(|error| LoggingError::File(directory.display().to_string(), error.to_string()))
    }
}

/// The writer of one line. Holds the lock of the file.
#[derive(Debug)]
pub(crate) struct InFile<'a>(MutexGuard<'a, RollingFileAppender>);

impl io::Write for InFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a> MakeWriter<'a> for Files {
    type Writer = InFile<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        InFile(self.appender.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Logs to `DIRECTORY/NAME.DATE.log`, a new file each day.
///
/// # Errors
/// When the level is not understood or the directory cannot be written to.
pub(crate) fn to_files(
    level: &str,
    format: LogFormat,
    directory: &Path,
    name: &str,
) -> Result<(), LoggingError> {
    let appender = Arc::new(Mutex::new(Files::appender(directory, name)?));
    let files = Files { directory: directory.to_owned(), name: name.to_owned(), appender };
    install(level, format, files.clone(), false)?;
    let _ = FILES.set(files);
    Ok(())
}

/// Reopens the log's file, after another program has moved it. If that fails, the old file stays open.
pub(crate) fn reopen() {
    let Some(files) = FILES.get() else { return };
    match Files::appender(&files.directory, &files.name) {
        Ok(appender) => *files.appender.lock().unwrap_or_else(PoisonError::into_inner) = appender,
        Err(error) => tracing::error!(%error, "cannot open the log anew"),
    }
}
