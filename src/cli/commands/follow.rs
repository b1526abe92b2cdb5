//! Following a run to its end: events in, output out, ^C and lost connections in between.
//!
//! Losing the connection cancels nothing: the run goes on, and following resumes at the byte where it stopped.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tonic::Streaming;

use super::{
    printer::Printer,
    shown::{JSON_BYTES, run_json, summary, task_line},
};
use crate::{
    cli::{
        args::{Format, run::PrintArgs},
        exit::{self, Failure, Status},
        output::{Tone, complain, note, say_json},
        sanitize::plain,
    },
    domain::{
        frame::{Frame, Stream},
        ids::RunReference,
        plan::{Gate, GateState},
        run::{Run, Task},
    },
    sys::{
        clock::{local_time, spoken, unix_ms},
        shutdown::{EndSignal, EndSignals},
    },
    wire::{
        client::{ControlClient, MasterAddress},
        proto::{self, run_event::Kind},
        status::CallError,
    },
};

/// What a shell says of a program whose reader is gone: 128 + SIGPIPE.
const READER_GONE: Status = Status(141);
/// Pause between two attempts to reach the master again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How to follow.
#[derive(Clone, Debug)]
pub(super) struct Following {
    pub(super) address: MasterAddress,
    pub(super) print: PrintArgs,
    pub(super) give_up: Duration,
    pub(super) from_offset: u64,
    pub(super) agents: Vec<String>,
    /// Go on until the run ends.
    pub(super) follow: bool,
    /// ^C concerns the run, not only this client.
    pub(super) owns: bool,
}

impl Following {
    /// The call that follows a run from a cursor.
    pub(super) fn request(&self, run: RunReference, cursor: u64) -> proto::FollowRunRequest {
        proto::FollowRunRequest {
            run: Some(run.into()),
            cursor,
            agents: self.agents.clone(),
            from_offset: self.from_offset,
            follow: self.follow,
            without_output: false,
        }
    }
}

/// What a person at the terminal was asked, and how far it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    No,
    /// Several agents: cancel, leave or wait?
    Asked,
    /// Cancelled; waiting for the proof.
    Cancelled,
}

struct Follower {
    following: Following,
    client: ControlClient,
    printer: Printer,
    run: Run,
    cursor: u64,
    ends: HashMap<u32, u64>,
    interrupt: Interrupt,
    collected: HashMap<u32, [Vec<u8>; 2]>,
    began: Instant,
    /// Standard output's reader is gone; nothing more is printed.
    mute: bool,
}

/// How following ended.
enum End {
    /// The run, or what there is of it, was shown.
    Shown,
    /// The run goes on without this client.
    Detached(Status),
}

/// Follows the events of one run. The first one has to be the run.
pub(super) async fn follow(
    following: Following,
    client: ControlClient,
    mut events: Streaming<proto::RunEvent>,
) -> Result<Status, Failure> {
    let first = events.message().await.map_err(CallError::from)?.and_then(|event| event.kind);
    let run = match first {
        Some(Kind::Run(run)) => Run::try_from(run).map_err(Failure::new)?,
        Some(Kind::Refused(refused)) => return Err(Failure::new(refused.reason).with(exit::NO_STATUS)),
        Some(Kind::TargetChanged(changed)) => {
            let gone: Vec<_> = changed.gone.into_iter().map(|gone| gone.name).collect();
            let text = format!("{} changed since it was shown. Nothing started", gone.join(", "));
            return Err(Failure::new(text).with(exit::NO_STATUS));
        }
        _ => return Err(Failure::new("the master's answer does not begin with a run")),
    };
    let printer = Printer::new(&run, following.print)?;
    let mut follower = Follower {
        following,
        client,
        printer,
        run,
        cursor: 0,
        ends: HashMap::new(),
        interrupt: Interrupt::No,
        collected: HashMap::new(),
        began: Instant::now(),
        mute: false,
    };
    follower.head();
    let end = follower.run_to_end(events).await?;
    if !follower.mute {
        // A reader that is gone now is gone for the end only.
        let _ = follower.printer.finish();
    }
    Ok(match end {
        End::Shown => follower.tail(),
        End::Detached(status) => {
            follower.say_attach();
            status
        }
    })
}

impl Follower {
    fn is_text(&self) -> bool {
        self.following.print.output == Format::Text
    }

    fn wants_notes(&self) -> bool {
        self.is_text() && self.printer.has_person() && !self.following.print.quiet
    }

    fn head(&self) {
        if !self.wants_notes() {
            return;
        }
        let run = &self.run;
        let whom = match run.tasks.as_slice() {
            [task] => task.agent.to_string(),
            tasks => format!("{} agents", tasks.len()),
        };
        let text = format!("{whom}  run {}  {}", run.number, plain(&run.command.shown()));
        note(&self.printer.paint().paint(Tone::Dim, &text));
        for left in &run.left_out {
            note(&format!("left out: {} ({})", plain(&left.agent), plain(&left.reason)));
        }
    }

    async fn run_to_end(&mut self, mut events: Streaming<proto::RunEvent>) -> Result<End, Failure> {
        let mut signals = EndSignals::new()?;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut typed: Option<mpsc::Receiver<String>> = None;
        self.say_waiting();
        loop {
            tokio::select! {
                event = events.message() => match event {
                    Ok(Some(proto::RunEvent { kind: Some(kind) })) => match self.take(kind) {
                        Ok(Some(end)) => return Ok(end),
                        Ok(None) => {}
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                            if let Some(end) = self.reader_gone().await? {
                                return Ok(end);
                            }
                        }
                        Err(error) => return Err(error.into()),
                    },
                    Ok(_) if !self.following.follow => return Ok(End::Shown),
                    Err(status) if status.code() == tonic::Code::DataLoss => {
                        return Err(Failure::new(status.message()).with(exit::NO_STATUS));
                    }
                    Ok(_) | Err(_) => match self.reconnect(&mut signals).await? {
                        Some(again) => events = again,
                        None => return Ok(End::Detached(exit::NO_STATUS)),
                    },
                },
                signal = signals.next() => {
                    if let Some(end) = self.signalled(signal, &mut typed).await? {
                        return Ok(end);
                    }
                }
                Some(line) = next_line(&mut typed) => {
                    if let Some(end) = self.answered(&line).await? {
                        return Ok(end);
                    }
                }
                _ = second.tick() => {
                    if self.should_give_up() {
                        complain(&format!("no contact for {}; gave up waiting", spoken(self.following.give_up)));
                        return Ok(End::Detached(exit::NO_STATUS));
                    }
                }
            }
        }
    }

    /// Takes one event; the end when it is one.
    fn take(&mut self, kind: Kind) -> io::Result<Option<End>> {
        match kind {
            Kind::Run(run) => {
                // After a reconnect: the states as they are now.
                if let Ok(run) = Run::try_from(run) {
                    self.run = run;
                }
            }
            Kind::Task(task) => {
                if let Ok(task) = Task::try_from(task) {
                    self.task_changed(task);
                }
            }
            Kind::Output(output) => {
                if output.cursor > 0 {
                    self.cursor = output.cursor;
                }
                for frame in output.frames {
                    if let Ok(frame) = Frame::try_from(frame) {
                        self.frame(output.task_index, frame)?;
                    }
                }
            }
            Kind::Gap(gap) => {
                if let Some(lost) = gap.gap {
                    complain(&format!(
                        "{} bytes of output are missing at offset {}: {}",
                        lost.to.saturating_sub(lost.from),
                        lost.from,
                        plain(&lost.reason)
                    ));
                }
            }
            Kind::Ended(ended) => {
                self.run.ended_ms = Some(ended.ended_ms);
                return Ok(Some(End::Shown));
            }
            Kind::Gate(gate) => return Ok(self.gate_changed(gate.into())),
            Kind::Closing(_) | Kind::Refused(_) | Kind::TargetChanged(_) => {}
        }
        Ok(None)
    }

    fn frame(&mut self, task: u32, frame: Frame) -> io::Result<()> {
        // After a reconnect the last piece may come again.
        let end = self.ends.entry(task).or_insert(self.following.from_offset);
        let Some(frame) = frame.from_offset(*end) else { return Ok(()) };
        *end = frame.end();
        if !self.is_text() {
            let streams = self.collected.entry(task).or_default();
            let kept = &mut streams[usize::from(frame.stream == Stream::Stderr)];
            let room = JSON_BYTES.saturating_sub(kept.len());
            kept.extend_from_slice(&frame.data[..frame.data.len().min(room)]);
            return Ok(());
        }
        if self.mute { Ok(()) } else { self.printer.frame(task, &frame) }
    }

    fn task_changed(&mut self, task: Task) {
        let Some(known) = self.run.tasks.iter_mut().find(|known| known.index == task.index) else {
            return;
        };
        let lost_contact = task.no_contact_since_ms.filter(|_| known.no_contact_since_ms.is_none());
        let waits = !task.waiting.is_empty() && task.waiting != known.waiting;
        let (agent, waiting) = (task.agent.clone(), task.waiting.clone());
        *known = task;
        if !self.wants_notes() {
            return;
        }
        if let Some(since) = lost_contact {
            let since = local_time(since, unix_ms());
            note(
                &self.printer.paint().paint(
                    Tone::Waiting,
                    &format!("~ {agent}: no contact since {since}; the command goes on"),
                ),
            );
        } else if waits {
            note(&self.printer.paint().paint(Tone::Waiting, &format!("… {agent}: {}", plain(&waiting))));
        }
    }

    /// Says that a run is held. A person may promote it from another terminal; a script must not wait for that.
    fn gate_changed(&mut self, gate: Gate) -> Option<End> {
        self.run.gate = gate;
        let number = self.run.number;
        let GateState::Held(reason) = &self.run.gate.state else { return None };
        complain(&format!(
            "run {number} waits: {}\nsloth-runner job promote {number} goes on, sloth-runner job stop {number} ends it",
            plain(reason)
        ));
        let is_watched = io::stdin().is_terminal() && self.printer.has_person();
        (!is_watched).then_some(End::Detached(exit::NO_STATUS))
    }

    fn say_waiting(&self) {
        if !self.wants_notes() {
            return;
        }
        for task in self.run.tasks.iter().filter(|task| !task.waiting.is_empty()) {
            let text = format!("… {}: {}", task.agent, plain(&task.waiting));
            note(&self.printer.paint().paint(Tone::Waiting, &text));
        }
    }

    fn open_tasks(&self) -> impl Iterator<Item = &Task> {
        self.run.tasks.iter().filter(|task| task.state.outcome().is_none())
    }

    /// Whether everything that is still open has been without contact for too long.
    fn should_give_up(&self) -> bool {
        let now = unix_ms();
        let limit = u64::try_from(self.following.give_up.as_millis()).unwrap_or(u64::MAX);
        let is_lost =
            |task: &Task| task.no_contact_since_ms.is_some_and(|since| now.saturating_sub(since) >= limit);
        let mut open = self.open_tasks().peekable();
        self.following.follow && open.peek().is_some() && open.all(is_lost)
    }

    async fn cancel(&self) -> Result<(), Failure> {
        let run = RunReference::Id(self.run.id);
        let request = proto::CancelRunRequest { run: Some(run.into()), task_indices: Vec::new() };
        self.client.calls().cancel_run(request).await.map_err(CallError::from)?;
        Ok(())
    }

    async fn reader_gone(&mut self) -> Result<Option<End>, Failure> {
        self.mute = true;
        if !self.following.owns || !self.run.plain_name {
            return Ok(Some(End::Detached(READER_GONE)));
        }
        self.cancel().await?;
        self.interrupt = Interrupt::Cancelled;
        Ok(None)
    }

    async fn signalled(
        &mut self,
        signal: EndSignal,
        typed: &mut Option<mpsc::Receiver<String>>,
    ) -> Result<Option<End>, Failure> {
        if !self.following.owns || signal == EndSignal::Hangup {
            return Ok(Some(End::Detached(exit::INTERRUPTED)));
        }
        let has_terminal = io::stdin().is_terminal() && self.printer.has_person();
        let asks = has_terminal && !self.run.plain_name && signal == EndSignal::Interrupt;
        match self.interrupt {
            Interrupt::No if asks => {
                let open: Vec<_> = self.open_tasks().map(|task| task.agent.to_string()).collect();
                let shown =
                    if open.len() > 5 { format!("{}, …", open[..5].join(", ")) } else { open.join(", ") };
                // The terminal has echoed ^C at the beginning of this line.
                note(&format!(
                    "\n{} of {} still run: {shown}    ^C cancel them   d Enter leave them running   Enter wait",
                    open.len(),
                    self.run.tasks.len()
                ));
                typed.get_or_insert_with(read_lines);
                self.interrupt = Interrupt::Asked;
                Ok(None)
            }
            Interrupt::No | Interrupt::Asked => {
                self.interrupt = Interrupt::Cancelled;
                self.cancel().await?;
                Ok(None)
            }
            Interrupt::Cancelled => Ok(Some(End::Detached(exit::INTERRUPTED))),
        }
    }

    async fn answered(&mut self, line: &str) -> Result<Option<End>, Failure> {
        if self.interrupt != Interrupt::Asked {
            return Ok(None);
        }
        match line.trim() {
            "d" => Ok(Some(End::Detached(exit::INTERRUPTED))),
            "c" => {
                self.interrupt = Interrupt::Cancelled;
                self.cancel().await?;
                Ok(None)
            }
            _ => {
                self.interrupt = Interrupt::No;
                Ok(None)
            }
        }
    }

    /// Finds the run again after the connection broke; `None` when that takes too long or somebody has had enough.
    async fn reconnect(
        &mut self,
        signals: &mut EndSignals,
    ) -> Result<Option<Streaming<proto::RunEvent>>, Failure> {
        let until = Instant::now() + self.following.give_up;
        let mut said = false;
        loop {
            let again = async {
                let client = ControlClient::connect(&self.following.address).await.ok()?;
                let request = self.following.request(RunReference::Id(self.run.id), self.cursor);
                let events = client.follow_run(request).await.ok()?;
                Some((client, events))
            };
            if let Some((client, events)) = again.await {
                self.client = client;
                return Ok(Some(events));
            }
            if !said && self.wants_notes() {
                let text = "~ the master does not answer; the run goes on, trying again";
                note(&self.printer.paint().paint(Tone::Waiting, text));
                said = true;
            }
            if Instant::now() >= until {
                complain(&format!("the master did not answer for {}", spoken(self.following.give_up)));
                return Ok(None);
            }
            tokio::select! {
                () = tokio::time::sleep(TRY_AGAIN) => {}
                _ = signals.next() => return Ok(None),
            }
        }
    }

    fn say_attach(&self) {
        if self.is_text() {
            note(&format!("run {} goes on: sloth-runner job attach {}", self.run.number, self.run.number));
        }
    }

    /// What needs a person comes last, just above the prompt.
    fn tail(&mut self) -> Status {
        if !self.is_text() {
            say_json(&run_json(&self.run, Some(&self.collected)));
        }
        let paint = self.printer.paint();
        let notes = self.wants_notes();
        for task in &self.run.tasks {
            let Some(outcome) = task.state.outcome() else { continue };
            let has_true_status = outcome.status().is_some();
            let is_shown = if self.run.plain_name { notes } else { notes && !outcome.is_success() };
            if self.is_text() && (is_shown || !has_true_status) {
                note(&task_line(task, outcome, paint));
            }
        }
        let status = exit::of_tasks(&self.run.tasks);
        if notes && !self.run.plain_name {
            note(&summary(&self.run, self.began.elapsed()));
        }
        match self.interrupt {
            _ if self.mute => READER_GONE,
            Interrupt::Cancelled => exit::INTERRUPTED,
            Interrupt::No | Interrupt::Asked => status,
        }
    }
}

/// Lines from a terminal, read on a thread of their own that ends with the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel(4);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    typed
}

async fn next_line(typed: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match typed {
        Some(typed) => typed.recv().await,
        None => std::future::pending().await,
    }
}
