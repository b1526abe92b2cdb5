//! Reads the output of a task from any offset, for a window, a search, a file or a pager.

use crate::{
    domain::{
        control::{FollowJob, JobEvent},
        frame::Frame,
        ids::{JobId, JobReference},
        name::AgentName,
        offset::OutputOffset,
    },
    tui::output::{
        line::Line,
        look::Streams,
        maker::LineMakers,
        matching::Needle,
        window::{FULL_VIEW_CAPACITY, Window},
    },
    wire::{client::ControlClient, status::CallError},
};

/// The number of bytes that a backward search reads at once.
const SEARCH_CHUNK_BYTES: u64 = 1024 * 1024;

/// Creates a request for the stored output of one task.
fn request(job: JobId, agent: &AgentName, from: OutputOffset, until: Option<OutputOffset>) -> FollowJob {
    FollowJob {
        agents: vec![agent.clone()],
        from_offset: from,
        until_offset: until,
        ..FollowJob::new(JobReference::Id(job))
    }
}

/// A part of a task's output.
pub(super) enum Piece {
    /// Output of the task.
    Printed(Frame),
    /// A gap in the output, between two offsets.
    Missing { from: OutputOffset, to: OutputOffset },
}

/// Passes each part of the output to `take`, until it returns false.
pub(super) async fn pieces(
    client: &ControlClient,
    job: JobId,
    agent: &AgentName,
    from: OutputOffset,
    until: Option<OutputOffset>,
    mut take: impl AsyncFnMut(Piece) -> bool,
) -> Result<(), CallError> {
    let mut events = client.follow_job(request(job, agent, from, until)).await?;
    while let Some(event) = events.next().await? {
        let (frames, missing) = match event {
            JobEvent::Output { frames, .. } => (frames, None),
            JobEvent::Gap { gap, .. } => (Vec::new(), Some(gap)),
            _ => continue,
        };
        let missing = missing.map(|gap| Piece::Missing { from: gap.from, to: gap.to });
        for piece in frames.into_iter().map(Piece::Printed).chain(missing) {
            if !take(piece).await {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Passes each line from an offset to the end of the output to `take`, until it returns false.
pub(super) async fn lines(
    client: &ControlClient,
    job: JobId,
    agent: &AgentName,
    from: OutputOffset,
    mut take: impl AsyncFnMut(Line) -> bool,
) -> Result<(), CallError> {
    let mut makers = LineMakers::default();
    let mut continues = true;
    pieces(client, job, agent, from, None, async |piece| {
        let mut made = Vec::new();
        match piece {
            Piece::Printed(frame) => makers.feed(&frame, |line| made.push(line)),
            Piece::Missing { from, to } => made = makers.miss(from, to),
        }
        for line in made {
            continues = continues && take(line).await;
        }
        continues
    })
    .await?;
    for line in makers.end() {
        continues = continues && take(line).await;
    }
    Ok(())
}

/// Reads the output between two offsets into a window.
pub(super) async fn window(
    client: &ControlClient,
    job: JobId,
    agent: &AgentName,
    from: OutputOffset,
    until: OutputOffset,
) -> Result<Window, CallError> {
    let mut window = Window::new(FULL_VIEW_CAPACITY, from);
    pieces(client, job, agent, from, Some(until), async |piece| {
        match piece {
            Piece::Printed(frame) => window.feed(frame),
            Piece::Missing { from, to } => window.note_gap(from, to, 0),
        }
        true
    })
    .await?;
    Ok(window)
}

/// Returns the offset of the next or previous line that contains a text, seen from an offset.
pub(super) async fn search(
    client: &ControlClient,
    job: JobId,
    agent: &AgentName,
    (needle, streams): &(Needle, Streams),
    from: OutputOffset,
    forwards: bool,
) -> Result<Option<OutputOffset>, CallError> {
    let has = |line: &Line| streams.shows(line.source) && needle.is_in(&line.text);
    if forwards {
        let mut found = None;
        lines(client, job, agent, from, async |line| {
            if has(&line) {
                found = Some(line.offset);
            }
            found.is_none()
        })
        .await?;
        return Ok(found);
    }
    let mut until = from;
    while until > OutputOffset::START {
        let begin = until - SEARCH_CHUNK_BYTES;
        let window = window(client, job, agent, begin, until).await?;
        let found = window.lines(0, usize::MAX).filter(|line| has(line)).map(|line| line.offset).last();
        if found.is_some() {
            return Ok(found);
        }
        // The line that was cut at the beginning belongs to the previous part.
        until = if begin > OutputOffset::START && window.from() < until { window.from() } else { begin };
    }
    Ok(None)
}
