//! Runs and tasks in words and in JSON, for every command that shows them.

use std::{collections::HashMap, time::Duration};

use serde_json::json;

use crate::{
    cli::{
        output::{Paint, Tone},
        sanitize::plain,
    },
    domain::{
        ids::RunId,
        outcome::{Ending, Outcome},
        run::{Run, Task, TaskState},
    },
    sys::clock::{local_time, spoken, unix_ms},
};

/// Most bytes of each stream in a JSON object.
pub(super) const JSON_BYTES: usize = 16 * 1024 * 1024;

/// One task's end in a line: `✗ web-1 exited 3 in 12 ms`.
pub(super) fn task_line(task: &Task, outcome: &Outcome, paint: Paint) -> String {
    let took = match (&outcome.ending, task.duration_ns) {
        (Ending::Refused(_) | Ending::Undeliverable(_) | Ending::Lost(_) | Ending::Skipped(_), _)
        | (_, 0) => String::new(),
        (_, ns) => format!(" in {}", spoken(Duration::from_nanos(ns))),
    };
    let tone = if outcome.is_success() { Tone::Good } else { Tone::Bad };
    paint.paint(tone, &format!("{} {} {}{took}", outcome.glyph(), task.agent, plain(&outcome.to_string())))
}

/// A run's end in a line.
pub(super) fn summary(run: &Run, took: Duration) -> String {
    let good = run.tasks.iter().filter(|task| task.state.outcome().is_some_and(Outcome::is_success));
    let (good, all) = (good.count(), run.tasks.len());
    let rest = if good == all { String::new() } else { format!("; {} did not", all - good) };
    format!(
        "run {}  {good} of {all} exited 0{rest}  {}  sloth-runner job show {}",
        run.number,
        spoken(took),
        run.number
    )
}

/// A run as one JSON object.
pub(super) fn run_json(run: &Run, output: Option<&HashMap<u32, [Vec<u8>; 2]>>) -> serde_json::Value {
    let id: RunId = run.id;
    let task_json = |task: &Task| {
        let mut object = json!({
            "index": task.index,
            "agent": task.agent.as_str(),
            "state": task.state.word(),
            "outcome": task.state.outcome(),
            "status": task.state.outcome().and_then(Outcome::status),
            "started_ms": task.started_ms,
            "duration_ns": task.duration_ns,
            "end_offset": task.end_offset,
            "no_contact_since_ms": task.no_contact_since_ms,
            "waiting": task.waiting,
        });
        if let (Some(output), Some(fields)) = (output, object.as_object_mut()) {
            let streams = output.get(&task.index);
            for (index, stream) in ["stdout", "stderr"].into_iter().enumerate() {
                let bytes = streams.map(|streams| streams[index].as_slice()).unwrap_or_default();
                fields.insert(stream.to_owned(), String::from_utf8_lossy(bytes).into());
                fields.insert(format!("{stream}_truncated"), (bytes.len() >= JSON_BYTES).into());
            }
        }
        object
    };
    json!({
        "schema_version": 1,
        "id": id.to_string(),
        "number": run.number,
        "operator": run.operator,
        "target": run.target,
        "command": run.command.shown(),
        "created_ms": run.created_ms,
        "ended_ms": run.ended_ms,
        "task_count": run.task_count,
        "tasks": run.tasks.iter().map(task_json).collect::<Vec<_>>(),
    })
}

/// The word for a task that may not have ended.
pub(super) fn state_text(task: &Task) -> String {
    match &task.state {
        TaskState::Ended(outcome) => outcome.to_string(),
        state => match (task.no_contact_since_ms, task.waiting.as_str()) {
            (Some(since), _) => {
                format!("{}, no contact since {}", state.word(), local_time(since, unix_ms()))
            }
            (None, "") => state.word().to_owned(),
            (None, waiting) => format!("{}: {waiting}", state.word()),
        },
    }
}
