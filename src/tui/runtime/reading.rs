//! Reading what a task printed, from anywhere, for a window, a search, a file or a pager.

use crate::{
    domain::{
        frame::{Frame, Stream},
        ids::{RunId, RunReference},
        name::AgentName,
    },
    tui::output::{
        line::Line,
        maker::LineMaker,
        window::{FULL, Window},
    },
    wire::{
        client::ControlClient,
        proto::{self, run_event::Kind},
        status::CallError,
    },
};

/// A backwards search reads pieces of so many bytes.
const PIECE: u64 = 1024 * 1024;

/// A request for what there is of one task's output.
fn request(run: RunId, agent: &AgentName, from: u64, until: u64) -> proto::FollowRunRequest {
    proto::FollowRunRequest {
        run: Some(RunReference::Id(run).into()),
        agents: vec![agent.to_string()],
        from_offset: from,
        until_offset: until,
        ..proto::FollowRunRequest::default()
    }
}

/// Calls with each frame, as long as that wants more.
pub(super) async fn frames(
    client: &ControlClient,
    run: RunId,
    agent: &AgentName,
    from: u64,
    until: u64,
    mut take: impl AsyncFnMut(Frame) -> bool,
) -> Result<(), CallError> {
    let mut events = client.follow_run(request(run, agent, from, until)).await?;
    while let Some(event) = events.message().await? {
        let Some(Kind::Output(output)) = event.kind else { continue };
        for frame in output.frames.into_iter().filter_map(|frame| Frame::try_from(frame).ok()) {
            if !take(frame).await {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Calls with each line, from the first one, as long as that wants more.
pub(super) async fn lines(
    client: &ControlClient,
    run: RunId,
    agent: &AgentName,
    mut take: impl AsyncFnMut(Line) -> bool,
) -> Result<(), CallError> {
    let mut makers = [LineMaker::new(Stream::Stdout), LineMaker::new(Stream::Stderr)];
    let mut goes_on = true;
    frames(client, run, agent, 0, 0, async |frame| {
        let mut made = Vec::new();
        let maker = &mut makers[usize::from(frame.stream == Stream::Stderr)];
        maker.feed(&frame.data, frame.offset, frame.time_ns, |line| made.push(line));
        for line in made {
            goes_on = goes_on && take(line).await;
        }
        goes_on
    })
    .await?;
    let rest: Vec<Line> = makers.iter().filter_map(LineMaker::pending).collect();
    for line in rest {
        goes_on = goes_on && take(line).await;
    }
    Ok(())
}

/// A window of what lies between two offsets.
pub(super) async fn window(
    client: &ControlClient,
    run: RunId,
    agent: &AgentName,
    from: u64,
    until: u64,
) -> Result<Window, CallError> {
    let mut window = Window::new(FULL, from);
    frames(client, run, agent, from, until, async |frame| {
        window.feed(frame);
        true
    })
    .await?;
    Ok(window)
}

/// Where the next line is that has a text, or the one before, seen from an offset.
pub(super) async fn search(
    client: &ControlClient,
    run: RunId,
    agent: &AgentName,
    text: &str,
    from: u64,
    forwards: bool,
) -> Result<Option<u64>, CallError> {
    let text = text.to_lowercase();
    let has = |line: &Line| line.text.to_lowercase().contains(&text);
    if forwards {
        let mut makers = [LineMaker::new(Stream::Stdout), LineMaker::new(Stream::Stderr)];
        let mut found = None;
        frames(client, run, agent, from, 0, async |frame| {
            let maker = &mut makers[usize::from(frame.stream == Stream::Stderr)];
            maker.feed(&frame.data, frame.offset, frame.time_ns, |line| {
                if found.is_none() && has(&line) {
                    found = Some(line.offset);
                }
            });
            found.is_none()
        })
        .await?;
        return Ok(found);
    }
    let mut until = from;
    while until > 0 {
        let begin = until.saturating_sub(PIECE);
        let window = window(client, run, agent, begin, until).await?;
        let found = window.lines(0, usize::MAX).filter(|line| has(line)).map(|line| line.offset).last();
        if found.is_some() {
            return Ok(found);
        }
        // The line that was cut at the beginning belongs to the piece before.
        until = if begin > 0 && window.from() < until { window.from() } else { begin };
    }
    Ok(None)
}
