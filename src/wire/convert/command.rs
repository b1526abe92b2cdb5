//! Commands, their environment, and the options of a job.

use bytes::Bytes as WireBytes;

use super::{
    InvalidPlan,
    input::{input_in, input_out},
};
use crate::{
    domain::{
        command::{Bytes, Command, InvalidCommand, Variable, bounded},
        job::{JobOptions, Overflow},
    },
    wire::{
        bounds::{OutOfBounds, wait_ms},
        proto,
    },
};

/// The longest path that Linux allows, with its terminating NUL (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// The error for options of a job, or the same options of a task, that are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// A variable is not valid, or all variables together are too long.
    #[error("{0}")]
    Environment(String),
    /// The working directory is too long, or contains a NUL byte.
    #[error("a working directory of {0} bytes, or with a NUL byte")]
    Directory(usize),
    /// A time is too long.
    #[error(transparent)]
    Time(#[from] OutOfBounds),
    /// The plan is not valid.
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
}

impl From<Command> for proto::Command {
    fn from(command: Command) -> Self {
        Self { words: command.words().iter().map(|word| word.0.clone().into()).collect() }
    }
}

impl TryFrom<proto::Command> for Command {
    type Error = InvalidCommand;

    fn try_from(command: proto::Command) -> Result<Self, InvalidCommand> {
        Self::new(command.words.into_iter().map(Into::into).collect())
    }
}

pub(super) fn variables_out(variables: Vec<Variable>) -> Vec<proto::EnvironmentVariable> {
    let out = |variable: Variable| proto::EnvironmentVariable {
        name: variable.name.0.into(),
        value: variable.value.0.into(),
    };
    variables.into_iter().map(out).collect()
}

pub(super) fn variables_in(
    variables: Vec<proto::EnvironmentVariable>,
) -> Result<Vec<Variable>, InvalidOptions> {
    let variables: Result<Vec<Variable>, String> = variables
        .into_iter()
        .map(|variable| Variable::new(variable.name.into(), variable.value.into()))
        .collect();
    variables.and_then(bounded).map_err(InvalidOptions::Environment)
}

pub(super) fn directory_out(directory: Option<Bytes>) -> Option<WireBytes> {
    directory.map(|directory| directory.0.into())
}

pub(super) fn directory_in(path: Option<WireBytes>) -> Result<Option<Bytes>, InvalidOptions> {
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
    if path.len() >= MAX_PATH || path.contains(&0) {
        return Err(InvalidOptions::Directory(path.len()));
    }
    Ok(Some(Bytes(path.into())))
}

/// Converts a time limit. Zero means no limit, like an unset field.
pub(super) fn limit_in(ms: Option<u64>, what: &str) -> Result<Option<u64>, OutOfBounds> {
    ms.filter(|ms| *ms > 0).map(|ms| wait_ms(ms, what)).transpose()
}

impl From<JobOptions> for proto::JobOptions {
    fn from(options: JobOptions) -> Self {
        Self {
            environment: variables_out(options.environment),
            working_directory: directory_out(options.working_directory),
            timeout_ms: options.timeout_ms,
            start_within_ms: options.start_within_ms,
            kill_grace_ms: options.kill_grace_ms,
            now: options.now,
            overflow: match options.overflow {
                Overflow::Block => proto::Overflow::Block,
                Overflow::Gap => proto::Overflow::Gap,
            }
            .into(),
            output_cap: options.output_cap,
            plan: Some(options.plan.into()),
            input: input_out(options.input),
        }
    }
}

impl TryFrom<proto::JobOptions> for JobOptions {
    type Error = InvalidOptions;

    fn try_from(options: proto::JobOptions) -> Result<Self, InvalidOptions> {
        let overflow = match options.overflow() {
            proto::Overflow::Block => Overflow::Block,
            proto::Overflow::Unspecified | proto::Overflow::Gap => Overflow::Gap,
        };
        Ok(Self {
            overflow,
            recovered: false,
            output_cap: options.output_cap.filter(|bytes| *bytes > 0),
            environment: variables_in(options.environment)?,
            forgotten: Vec::new(),
            working_directory: directory_in(options.working_directory)?,
            timeout_ms: limit_in(options.timeout_ms, "a time limit")?,
            start_within_ms: limit_in(options.start_within_ms, "a start deadline")?,
            kill_grace_ms: options.kill_grace_ms.filter(|ms| *ms > 0),
            now: options.now,
            plan: options.plan.unwrap_or_default().try_into()?,
            input: input_in(options.input),
            // Never read from the message: the master sets it from the caller's role.
            by_admin: false,
        })
    }
}
