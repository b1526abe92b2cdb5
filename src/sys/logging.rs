//! Where a daemon's log goes: standard error in the foreground, a daily file for `--daemon`. However much there is to say, it
//! does not fill the disk.

use std::{io, path::Path};

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::MakeWriter};

use super::log_volume::Bounded;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Days that are kept of a daemon's log.
const KEPT_FILES: usize = 14;

/// A log that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is not understood.
    #[error("{0:?} is not a log level: use error, warn, info or debug, or a tracing filter")]
    Level(String),
    /// The file cannot be made.
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
        .with_writer(Bounded::new(writer, format, is_detailed));
    // A second daemon in one process (the demo's) keeps the first one's log.
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
pub fn to_stderr(level: &str, format: LogFormat) -> Result<(), LoggingError> {
    let colour = io::IsTerminal::is_terminal(&io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    install(level, format, io::stderr, colour)
}

/// Logs to `DIRECTORY/NAME.DATE.log`, a new file each day.
///
/// # Errors
/// When the level is not understood or the directory cannot be written to.
pub fn to_files(level: &str, format: LogFormat, directory: &Path, name: &str) -> Result<(), LoggingError> {
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(name)
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(directory)
        .map_err(|error| LoggingError::File(directory.display().to_string(), error.to_string()))?;
    install(level, format, std::sync::Mutex::new(appender), false)
}
