//! The messages that change the model, and the commands that `update` returns. Plain data.

use super::{
    model::{MasterStatus, command::Recipients, job::FollowKey},
    output::{
        look::{DisplayOptions, Streams},
        window::Window,
    },
};
use crate::domain::{
    agent::AgentView,
    control::JobDigest,
    fingerprint::Fingerprint,
    frame::Frame,
    groups::mask::Masks,
    ids::JobId,
    job::{Job, JobOptions},
    name::AgentName,
    offset::OutputOffset,
    proposal::Proposal,
};
use crate::{domain::code::KeyMark, tui::keymap::Key};

/// An event for the model.
#[derive(Debug)]
pub enum Msg {
    /// A key press.
    Key(Key),
    /// No key has arrived until the moment that the model waited for.
    Quiet,
    /// Text of a paste that the terminal has marked.
    Paste(String),
    /// A press of the left mouse button, at this column and row.
    Click(u16, u16),
    /// A turn of the mouse wheel, at this column and row. The flag is true for up.
    Wheel(u16, u16, bool),
    /// The size of the terminal has changed.
    Resized,
    /// A tick of the clock, once a second.
    Tick,
    /// A frame was drawn with a new layout.
    Drawn(super::model::Layout),
    /// The master has answered.
    Connected(Box<MasterStatus>),
    /// The master does not answer.
    Disconnected {
        /// The reason, as text for operators.
        reason: String,
        /// The delay before the next attempt, in milliseconds.
        retry_ms: u64,
    },
    /// The master starts to send all agents again.
    FleetBegins,
    /// Changes in the fleet.
    Agents {
        /// The agents that changed.
        agents: Vec<AgentView>,
        /// The agents that no longer exist.
        gone: Vec<AgentName>,
        /// All pending keys, if they changed.
        waiting: Option<Vec<AgentView>>,
        /// Whether the master has sent everything that was new.
        is_complete: bool,
    },
    /// Changes in the jobs, without their tasks.
    Jobs {
        /// Whether the newest jobs are sent again: jobs that were received before may be deleted.
        begins: bool,
        /// The jobs.
        jobs: Vec<Job>,
        /// The jobs that were deleted.
        deleted: Vec<JobId>,
        /// Whether the master has sent everything that was new.
        is_complete: bool,
    },
    /// The state of the watched job.
    Digest(JobId, Box<JobDigest>),
    /// The job cannot be watched, for this reason.
    WatchFailed(JobId, String),
    /// Output of a followed task.
    Output {
        /// The followed output, and the pane that shows it.
        key: FollowKey,
        /// The index of the task in its job.
        task: u32,
        /// The frames of output.
        frames: Vec<Frame>,
    },
    /// A gap in followed output.
    Gap {
        /// The followed output, and the pane that shows it.
        key: FollowKey,
        /// The index of the task in its job.
        task: u32,
        /// The offset at which the gap begins.
        from: OutputOffset,
        /// The offset at which the gap ends.
        to: OutputOffset,
    },
    /// The end of a followed task, or of all tasks. All of their output was sent before.
    TaskEnded(FollowKey, Option<u32>),
    /// Earlier output of a task, as a separate window.
    Earlier(JobId, u32, Box<Window>),
    /// The result of a search: the offset of the line, if one was found.
    Found(JobId, u32, Option<OutputOffset>),
    /// A job has started.
    Started(Box<Job>),
    /// A job was not started, for this reason.
    NotStarted(JobId, String),
    /// A job was not started: these agents have changed or disappeared since they were shown.
    TargetChanged(JobId, Vec<String>),
    /// It is unknown whether a job was started: the connection broke.
    StartUnknown(JobId),
    /// Recent jobs of one agent.
    Recent(String, Vec<Job>),
    /// The command history, oldest first.
    Past(Vec<String>),
    /// The text that the editor has saved.
    Edited(String),
    /// The unfinished line of the last session.
    Draft(String),
    /// Text to copy to the clipboard, and its description.
    Copied(String, String),
    /// Something succeeded, as text for operators.
    Done(String),
    /// The master has no job with this number.
    NoJob(u64),
    /// Something failed, as text for operators.
    Failed(String),
    /// The lines that show how to start an agent on another machine.
    JoinLine(Vec<String>),
    /// A signal suspends the program.
    Suspended,
    /// The program continues after it was stopped: the terminal may have been used for something else.
    Continued,
    /// The terminal has closed, or a signal ends the program.
    HangUp,
}

/// A command for the runtime.
#[derive(Clone, Debug, PartialEq)]
pub enum Cmd {
    /// Start a job.
    Start {
        /// The id of the job.
        id: JobId,
        /// The command.
        text: String,
        /// The agents that run it, as they were shown.
        recipients: Recipients,
        /// The options of the job.
        options: Box<JobOptions>,
    },
    /// Cancel these tasks; all tasks if the list is empty.
    Cancel(JobId, Vec<u32>),
    /// Promote a job that waits at a gate.
    Promote(JobId),
    /// Stop a job: start no more of its tasks.
    Stop(JobId),
    /// Watch this job instead of any other.
    Watch(JobId, Masks),
    /// Follow output.
    Follow {
        /// The output to follow, and the pane that shows it.
        key: FollowKey,
        /// The agent, if the output is that of one task.
        agent: Option<AgentName>,
        /// The offset in the output of the one task.
        from_offset: OutputOffset,
        /// For each of several tasks, the offset up to which its output was received.
        seen: Vec<(u32, OutputOffset)>,
    },
    /// Stop following an output.
    Unfollow(FollowKey),
    /// Read output that lies before an offset.
    ReadEarlier {
        /// The id of the job.
        job: JobId,
        /// The index of the task in its job.
        task: u32,
        /// The agent.
        agent: AgentName,
        /// The offset of the first byte.
        from: OutputOffset,
        /// The offset after the last byte.
        until: OutputOffset,
    },
    /// Search for a text in the part of a task's output that the window does not hold.
    Search {
        /// The id of the job.
        job: JobId,
        /// The index of the task in its job.
        task: u32,
        /// The agent.
        agent: AgentName,
        /// The text to search for.
        text: String,
        /// The streams in which to search.
        streams: Streams,
        /// The offset at which the search starts.
        from: OutputOffset,
        /// Whether to search towards the end, not towards the beginning.
        forwards: bool,
    },
    /// Find the job with a number; 0 means the newest.
    FindJob(u64),
    /// Read the recent jobs of one agent.
    Recent(AgentName),
    /// Approve a pending key, with the fingerprint and the proposal that were shown to the operator.
    Approve(AgentName, KeyMark, (Fingerprint, Proposal)),
    /// Reject a pending key.
    Reject(AgentName, Fingerprint),
    /// Set and remove labels of the agents of a target.
    Label(String, Vec<String>),
    /// Accept the proposal of an agent, as it was shown.
    Accept(AgentName, Proposal),
    /// Stop agents on their machines.
    StopAgents(Vec<AgentName>),
    /// Drain the agents of a target for a reason; `None` resumes them.
    DrainAgents(String, Option<String>),
    /// Delete agents from the registry.
    DeleteAgents(Vec<AgentName>),
    /// Open a shell on an agent.
    Shell(AgentName),
    /// Create a join line for another machine.
    MakeJoinLine,
    /// Copy a text to the clipboard. The second text describes it.
    Copy(String, String),
    /// Copy the output of a task to the clipboard.
    CopyOutput(JobId, AgentName),
    /// Save the output of each agent byte for byte into a separate file.
    Save(JobId, u64, Vec<AgentName>),
    /// Show the output of a task in the pager.
    Pager(JobId, AgentName, DisplayOptions),
    /// Edit a text in the editor.
    Edit(String),
    /// Add a command to the stored history.
    Remember(String),
    /// Store an unfinished line for the next session.
    KeepDraft(String),
    /// Ring the bell.
    Bell,
    /// Draw the whole screen again.
    Redraw,
    /// Switch the terminal to the screen again, and draw all of it.
    Retake,
    /// Suspend the program until the shell resumes it.
    Suspend,
    /// End the program.
    Quit,
}
