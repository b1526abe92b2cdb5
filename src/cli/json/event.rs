//! The events of a job, one per line (`-o ndjson`).
//!
//! `job`: the job and its tasks, first. `task`: the state of a task has changed. `line`: a task printed a
//! line. `gap`: output of a task no longer exists; it ends the lines of its task. `gate`: the job waits,
//! continues or was stopped. `ended`: all tasks have ended, last.

use serde::Serialize;

use super::{JobObject, SCHEMA_VERSION, TaskObject};
use crate::domain::{name::AgentName, offset::OutputOffset, time::UnixMs};

/// A printed event.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Event<T> {
    schema_version: u32,
    event: &'static str,
    #[serde(flatten)]
    fields: T,
}

impl<T: Fields> Event<T> {
    pub(in crate::cli) fn new(fields: T) -> Self {
        Self { schema_version: SCHEMA_VERSION, event: T::NAME, fields }
    }
}

/// The fields of one kind of event.
pub(in crate::cli) trait Fields: Serialize {
    /// The name of this kind of event.
    const NAME: &'static str;
}

impl Fields for JobObject<'_> {
    const NAME: &'static str = "job";
}

impl Fields for TaskObject<'_> {
    const NAME: &'static str = "task";
}

/// A line without its newline, or a piece of one.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct LineFields<'a> {
    pub(in crate::cli) index: u32,
    pub(in crate::cli) agent: Option<&'a AgentName>,
    /// `stdout` or `stderr`.
    pub(in crate::cli) stream: &'static str,
    /// The offset of the line in the task's output, in bytes.
    pub(in crate::cli) offset: OutputOffset,
    /// False for a piece of a line that continues, and for a last line without an end.
    pub(in crate::cli) newline: bool,
    /// Present, and true, if the line's beginning may be missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::cli) after_gap: bool,
    /// The line, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) text: Option<&'a str>,
    /// The line in Base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) base64: Option<String>,
}

impl Fields for LineFields<'_> {
    const NAME: &'static str = "line";
}

/// Output of a task that no longer exists, between two offsets.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct GapFields<'a> {
    pub(in crate::cli) index: u32,
    pub(in crate::cli) agent: Option<&'a AgentName>,
    pub(in crate::cli) from: OutputOffset,
    pub(in crate::cli) to: OutputOffset,
    pub(in crate::cli) reason: &'a str,
}

impl Fields for GapFields<'_> {
    const NAME: &'static str = "gap";
}

/// Whether the job may start more tasks.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct GateFields<'a> {
    /// `open`, `held` or `stopped`.
    pub(in crate::cli) state: &'static str,
    pub(in crate::cli) reason: Option<&'a str>,
    pub(in crate::cli) batch: u32,
}

impl Fields for GateFields<'_> {
    const NAME: &'static str = "gate";
}

/// The end of the job.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct EndedFields {
    pub(in crate::cli) number: u64,
    pub(in crate::cli) ended_ms: Option<UnixMs>,
    /// Number of tasks that exited with 0.
    pub(in crate::cli) succeeded: usize,
    pub(in crate::cli) task_count: usize,
    /// The exit status of the client.
    pub(in crate::cli) exit_status: u8,
}

impl Fields for EndedFields {
    const NAME: &'static str = "ended";
}
