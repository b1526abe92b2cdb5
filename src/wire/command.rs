//! Converts commands, options and task specifications.

use super::{
    InvalidMessage,
    bounds::{job_number, wait_ms},
    proto::{self, standard_input},
};
use crate::domain::{
    command::{Bytes, Command, TaskSpec, Variable, bounded},
    ids::{JobId, JobReference, TaskId},
    input::{StandardInput, Terminal},
    job::{JobOptions, MOST_TASKS, Overflow},
    seal::Seal,
};

impl From<Command> for proto::Command {
    fn from(command: Command) -> Self {
        Self { words: command.words().iter().map(|word| word.0.clone().into()).collect() }
    }
}

impl TryFrom<proto::Command> for Command {
    type Error = InvalidMessage;

    fn try_from(command: proto::Command) -> Result<Self, InvalidMessage> {
        let words = command.words.into_iter().map(Into::into).collect();
        Self::new(words).map_err(InvalidMessage::because)
    }
}

fn variables_out(variables: Vec<Variable>) -> Vec<proto::EnvironmentVariable> {
    let out = |variable: Variable| proto::EnvironmentVariable {
        name: variable.name.0.into(),
        value: variable.value.0.into(),
    };
    variables.into_iter().map(out).collect()
}

fn variables_in(variables: Vec<proto::EnvironmentVariable>) -> Result<Vec<Variable>, InvalidMessage> {
    let variables: Result<Vec<Variable>, String> = variables
        .into_iter()
        .map(|variable| Variable::new(variable.name.into(), variable.value.into()))
        .collect();
    variables.and_then(bounded).map_err(InvalidMessage)
}

/// The longest path that Linux takes, with its terminating NUL (`PATH_MAX`).
const MAX_PATH: usize = 4096;

fn directory_in(path: bytes::Bytes) -> Result<Option<Bytes>, InvalidMessage> {
    if path.len() >= MAX_PATH || path.contains(&0) {
        let text = format!("a working directory of {} bytes, or with a NUL byte", path.len());
        return Err(InvalidMessage(text));
    }
    Ok((!path.is_empty()).then(|| Bytes(path.into())))
}

fn input_out(input: StandardInput) -> Option<proto::StandardInput> {
    let kind = match input {
        StandardInput::Nothing => return None,
        StandardInput::Stream => standard_input::Kind::Stream(proto::InputStream {}),
        StandardInput::Terminal(Terminal { kind, rows, columns }) => {
            let size = proto::WindowSize { rows: rows.into(), columns: columns.into() };
            standard_input::Kind::Terminal(proto::Terminal { kind: kind.into(), size: Some(size) })
        }
    };
    Some(proto::StandardInput { kind: Some(kind) })
}

fn input_in(input: Option<proto::StandardInput>) -> StandardInput {
    match input.and_then(|input| input.kind) {
        None => StandardInput::Nothing,
        Some(standard_input::Kind::Stream(_)) => StandardInput::Stream,
        Some(standard_input::Kind::Terminal(terminal)) => {
            let (rows, columns) = terminal.size.as_ref().map_or((24, 80), window_size);
            StandardInput::Terminal(Terminal { kind: terminal.kind.into(), rows, columns })
        }
    }
}

/// Rows and columns.
#[must_use]
pub fn window_size(size: &proto::WindowSize) -> (u16, u16) {
    let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    (cells(size.rows), cells(size.columns))
}

impl From<JobOptions> for proto::JobOptions {
    fn from(options: JobOptions) -> Self {
        Self {
            environment: variables_out(options.environment),
            working_directory: options.working_directory.map(|bytes| bytes.0).unwrap_or_default().into(),
            timeout_ms: options.timeout_ms.unwrap_or(0),
            start_within_ms: options.start_within_ms.unwrap_or(0),
            kill_grace_ms: options.kill_grace_ms.unwrap_or(0),
            now: options.now,
            overflow: match options.overflow {
                Overflow::Block => proto::Overflow::Block,
                Overflow::Gap => proto::Overflow::Gap,
            }
            .into(),
            output_cap: options.output_cap.unwrap_or(0),
            plan: Some(options.plan.into()),
            input: input_out(options.input),
        }
    }
}

impl TryFrom<proto::JobOptions> for JobOptions {
    type Error = InvalidMessage;

    fn try_from(options: proto::JobOptions) -> Result<Self, InvalidMessage> {
        let some = |value: u64| (value > 0).then_some(value);
        let overflow = match options.overflow() {
            proto::Overflow::Block => Overflow::Block,
            proto::Overflow::Unspecified | proto::Overflow::Gap => Overflow::Gap,
        };
        Ok(Self {
            overflow,
            recovered: false,
            output_cap: some(options.output_cap),
            environment: variables_in(options.environment)?,
            forgotten: Vec::new(),
            working_directory: directory_in(options.working_directory)?,
            timeout_ms: some(wait_ms(options.timeout_ms, "a time limit")?),
            start_within_ms: some(wait_ms(options.start_within_ms, "a start deadline")?),
            kill_grace_ms: (options.kill_grace_ms > 0).then_some(options.kill_grace_ms),
            now: options.now,
            plan: options.plan.unwrap_or_default().try_into()?,
            input: input_in(options.input),
            // Not what a client says: the master knows who it is.
            by_admin: false,
        })
    }
}

/// A seal on the wire: 32 bytes, or none.
#[must_use]
pub fn seal_out(seal: Option<Seal>) -> bytes::Bytes {
    seal.map_or_else(bytes::Bytes::new, |seal| bytes::Bytes::copy_from_slice(seal.as_bytes()))
}

/// A seal; `None` for bytes that are none.
#[must_use]
pub fn seal_in(bytes: &[u8]) -> Option<Seal> {
    Seal::try_from(bytes).ok()
}

/// A task's specification, with the id that travels in it.
#[must_use]
pub fn task_spec_out(id: TaskId, spec: TaskSpec) -> proto::TaskSpec {
    proto::TaskSpec {
        job_id: id.job.to_bytes().to_vec().into(),
        job_number: spec.job_number,
        task_index: id.index,
        operator: spec.operator.into(),
        target: spec.target.into(),
        command: Some(spec.command.into()),
        environment: variables_out(spec.environment),
        working_directory: spec.working_directory.map(|bytes| bytes.0).unwrap_or_default().into(),
        timeout_ms: spec.timeout_ms.unwrap_or(0),
        kill_grace_ms: spec.kill_grace_ms,
        input: input_out(spec.input),
        by_admin: spec.by_admin,
        seal: seal_out(spec.seal),
    }
}

impl TryFrom<proto::TaskSpec> for TaskSpec {
    type Error = InvalidMessage;

    fn try_from(spec: proto::TaskSpec) -> Result<Self, InvalidMessage> {
        let command = spec.command.ok_or_else(|| InvalidMessage::missing("a task's command"))?;
        Ok(Self {
            job_number: job_number(spec.job_number)?,
            operator: spec.operator.into(),
            target: spec.target.into(),
            command: command.try_into()?,
            environment: variables_in(spec.environment)?,
            working_directory: directory_in(spec.working_directory)?,
            timeout_ms: Some(wait_ms(spec.timeout_ms, "a time limit")?).filter(|ms| *ms > 0),
            kill_grace_ms: spec.kill_grace_ms,
            input: input_in(spec.input),
            by_admin: spec.by_admin,
            seal: seal_in(&spec.seal),
        })
    }
}

/// A task's id from its two fields.
///
/// # Errors
/// When the job's id is invalid, or the index is larger than a job can have tasks.
pub fn task_id(job: &[u8], index: u32) -> Result<TaskId, InvalidMessage> {
    if index >= MOST_TASKS {
        return Err(InvalidMessage(format!("task {index}, where a job has at most {MOST_TASKS}")));
    }
    Ok(TaskId { job: JobId::from_bytes(job).map_err(InvalidMessage::because)?, index })
}

impl From<JobReference> for proto::JobReference {
    fn from(reference: JobReference) -> Self {
        use proto::job_reference::Kind;
        let kind = match reference {
            JobReference::Id(id) => Kind::JobId(id.to_bytes().to_vec().into()),
            JobReference::Number(number) => Kind::Number(number),
            JobReference::Last => Kind::Last(true),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::JobReference> for JobReference {
    type Error = InvalidMessage;

    fn try_from(reference: proto::JobReference) -> Result<Self, InvalidMessage> {
        use proto::job_reference::Kind;
        match reference.kind {
            Some(Kind::JobId(id)) => JobId::from_bytes(&id).map(Self::Id).map_err(InvalidMessage::because),
            Some(Kind::Number(number)) => job_number(number).map(Self::Number),
            Some(Kind::Last(_)) => Ok(Self::Last),
            None => Err(InvalidMessage::missing("the job")),
        }
    }
}
