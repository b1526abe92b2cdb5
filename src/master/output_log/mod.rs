//! Output logs: one append-only log for each job, in files of 64 MiB, addressed by task offset and by position.
//!
//! A position counts the log's bytes, headers included, over all its files. Knows nothing of agents or clients.

pub(crate) mod budget;
mod contents;
#[cfg(test)]
mod crashes;
mod file;
mod logs;
mod opening;
mod pacing;
pub(crate) mod reader;
mod state;
mod syncing;
pub(crate) mod writer;

use self::logs::{INDEX, LOG_EXTENSION, file_path, index_path};
pub use self::{
    logs::{FILE_SIZE, LogPosition, OutputLogs},
    pacing::Pacer,
    reader::LogReader,
    syncing::Trouble,
    writer::JobLog,
};
