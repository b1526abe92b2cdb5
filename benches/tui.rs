//! The cost of the control center: a frame of 200x60 with 10,000 agents and panes full of output, an update
//! for each event, and the time from a key to its frame while a million lines a second arrive. An empty frame
//! is the floor.

#![expect(clippy::unwrap_used, reason = "what fails in a bench ends it")]

use chrono::Offset as _;
use std::{
    collections::VecDeque,
    hint::black_box,
    io::{self, Write},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::{buffer::Buffer, layout::Rect};
use sloth_runner::{
    domain::{
        agent::{AgentState, AgentView, Facts, LastSeen, LinkKind},
        command::Command,
        control::JobDigest,
        digest::GroupDigest,
        frame::{Frame, Stream},
        groups::mask::Masks,
        ids::JobId,
        job::{Job, Task, TaskState},
        name::Labels,
        offset::OutputOffset,
        proposal::Proposal,
        time::UnixMs,
    },
    tui::{
        keymap::Key,
        model::{
            Model, Now,
            job::{FollowKey, Followed},
        },
        msg::Msg,
        runtime::{Console, News, drive},
        settings::Settings,
        terminal::Screen,
        update::update,
        view::view,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const SIZE: (u16, u16) = (200, 60);
const AGENTS: u32 = 10_000;
const TASKS: u32 = 100;
const FRAMES: usize = 2_000;
/// Number of lines a second in the flood.
const LINES_PER_SECOND: usize = 1_000_000;
const FLOOD_TIME: Duration = Duration::from_secs(10);
/// For how long keys are pressed during the flood, beginning after one second.
const TYPING_TIME: Duration = Duration::from_secs(8);
const BEGIN_MS: u64 = 1_795_442_531_000;

fn agent(n: u32) -> AgentView {
    AgentView {
        name: format!("web-{n}").parse().unwrap(),
        state: if n.is_multiple_of(97) { AgentState::Offline } else { AgentState::Active },
        link: Some(LinkKind::Tunnel),
        link_reason: String::new(),
        address: "10.0.0.7:40512".to_owned(),
        direct_address: None,
        version: "0.1.0".into(),
        labels: Labels::from([("role".to_owned().try_into().unwrap(), "web".to_owned().try_into().unwrap())]),
        set_labels: Labels::new(),
        proposed: Proposal::default(),
        reported_labels: Labels::new(),
        last_seen: Some(LastSeen { at_ms: UnixMs(BEGIN_MS), ago_ms: 0 }),
        enrolled_ms: UnixMs(0),
        fingerprint: "4F2A9C0D".repeat(8).parse().unwrap(),
        hint: String::new(),
        trust: "".into(),
        facts: Some(Facts { cpu_percent: 12.0, memory_total: 8, memory_available: 5, ..Facts::default() }),
        key_changed: false,
        has_code: false,
        offline_since_ms: None,
        last_job: None,
        drain: None,
    }
}

fn job() -> Job {
    let task = |n| Task {
        state: TaskState::Running,
        started_ms: Some(UnixMs(BEGIN_MS)),
        ..Task::queued(n, format!("web-{}", n + 1).parse().unwrap())
    };
    Job {
        id: JobId::from_parts(BEGIN_MS, 1),
        number: 412,
        operator: "ana".into(),
        target: "web-[1-100]".into(),
        plain_name: false,
        command: Command::new(vec![b"make".to_vec()]).unwrap(),
        created_ms: UnixMs(BEGIN_MS),
        ended_ms: None,
        tasks: (0..TASKS).map(task).collect(),
        task_count: TASKS,
        succeeded: 0,
        unfinished: TASKS,
        left_out: Vec::new(),
        gate: sloth_runner::domain::plan::Gate::default(),
        masks: Masks::default(),
        command_left_out: 0,
    }
}

/// The time between two keys.
const KEY_INTERVAL: Duration = Duration::from_millis(57);

/// Messages that bring a model to the grid of a job, with the whole fleet.
fn initial_messages() -> Vec<Msg> {
    let job = job();
    let group = GroupDigest { tasks: (0..TASKS).collect(), lines: [1, 0], ..GroupDigest::default() };
    let id = job.id;
    let digest = JobDigest { job: Some(Box::new(job.clone())), groups: vec![group], ..JobDigest::default() };
    let key = |sign| Msg::Key(Key::plain(KeyCode::Char(sign)));
    vec![
        Msg::Connected(Box::default()),
        Msg::Agents {
            agents: (1..=AGENTS).map(agent).collect(),
            gone: Vec::new(),
            waiting: None,
            is_complete: true,
        },
        Msg::Jobs {
            begins: true,
            jobs: vec![Job { tasks: Vec::new(), ..job }],
            deleted: Vec::new(),
            is_complete: true,
        },
        key('['),
        Msg::Digest(id, Box::new(digest)),
        key('2'),
        key('v'),
    ]
}

/// Output of one task: a number of lines, starting at an offset.
fn output(task: u32, offset: u64, lines: usize) -> (FollowKey, Frame) {
    let mut text = String::new();
    for n in 0..lines {
        text.push_str(if n % 7 == 0 { "\x1b[32mok\x1b[0m " } else { "" });
        text.push_str("Unpacking libc6 (2.36-9+deb12u10) over (2.36-9)\n");
    }
    let key = FollowKey { job: JobId::from_parts(BEGIN_MS, 1), what: Followed::Pane(task) };
    (key, Frame { stream: Stream::Stdout, offset: OutputOffset(offset), time_ns: 0, data: Bytes::from(text) })
}

struct Bench {
    model: Model,
    now: Now,
    offsets: Vec<u64>,
}

impl Bench {
    fn new() -> Self {
        let model = Model::new(Settings::default(), "bench".to_owned());
        let now = Now { monotonic: Duration::ZERO, unix_ms: UnixMs(BEGIN_MS), zone: chrono::Utc.fix() };
        let mut bench = Self { model, now, offsets: vec![0; TASKS as usize] };
        for msg in initial_messages() {
            bench.put(msg);
            bench.frame();
        }
        bench
    }

    fn put(&mut self, msg: Msg) {
        self.now.monotonic += KEY_INTERVAL;
        black_box(update(&mut self.model, msg, self.now));
    }

    fn frame(&mut self) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
        let layout = view(&self.model, &mut buffer);
        self.put(Msg::Drawn(layout));
        buffer
    }

    fn print(&mut self, task: u32, lines: usize) {
        let (key, frame) = output(task, self.offsets[task as usize], lines);
        self.offsets[task as usize] = frame.end().0;
        self.put(Msg::Output { key, task, frames: vec![frame] });
    }
}

fn percentile(all: &mut [Duration], percent: usize) -> Duration {
    all.sort_unstable();
    all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn row(name: &str, mut all: Vec<Duration>, floor: Option<Duration>) -> Duration {
    let (median, p99) = (percentile(&mut all, 50), percentile(&mut all, 99));
    let ratio = floor.map_or_else(String::new, |floor| {
        format!("  {:.1}x the floor", median.as_secs_f64() / floor.as_secs_f64())
    });
    println!("{name:<44} median {median:>9.3?}  p99 {p99:>9.3?}{ratio}");
    median
}

fn frames() {
    let empty: Vec<Duration> = (0..FRAMES)
        .map(|_| {
            let begun = Instant::now();
            let area = Rect::new(0, 0, SIZE.0, SIZE.1);
            let (shown, next) = (Buffer::empty(area), Buffer::empty(area));
            black_box(shown.diff(&next).len());
            begun.elapsed()
        })
        .collect();
    let floor = row("an empty frame, compared (the floor)", empty, None);
    let mut bench = Bench::new();
    let shown: Vec<u32> = bench.model.layout.panes.iter().map(|(task, _)| *task).collect();
    let mut drawn = Vec::new();
    let mut updated = Vec::new();
    let mut before = bench.frame();
    for at in 0..FRAMES {
        let task = shown[at % shown.len()];
        let begun = Instant::now();
        bench.print(task, 64);
        updated.push(begun.elapsed());
        let begun = Instant::now();
        let next = bench.frame();
        black_box(before.diff(&next).len());
        drawn.push(begun.elapsed());
        before = next;
    }
    row("a frame: 10,000 agents, panes full of output", drawn, Some(floor));
    row("an update: 64 lines of output", updated, None);
    let mut keys = Vec::new();
    for at in 0..FRAMES {
        let code = if at % 2 == 0 { KeyCode::Char('l') } else { KeyCode::Char('h') };
        let begun = Instant::now();
        bench.put(Msg::Key(Key::plain(code)));
        keys.push(begun.elapsed());
    }
    row("an update: a key in the grid", keys, None);
}

/// Records when each frame was written that moves the heavy border of the focused pane. Output does not move
/// it.
#[derive(Clone, Default)]
struct Drawn {
    moved: bool,
    at: Arc<Mutex<VecDeque<Instant>>>,
}

impl Write for Drawn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.moved |= bytes.windows(3).any(|sign| sign == "━".as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.moved) {
            self.at.lock().unwrap().push_back(Instant::now());
        }
        Ok(())
    }
}

/// Returns the resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn flood() {
    let drawn = Drawn::default();
    let (news, inbox) = mpsc::channel::<News>(256);
    let (keys, events) = mpsc::channel::<io::Result<Event>>(16);
    let mut events = Some(ReceiverStream::new(events));
    let console = Console {
        open: Box::new(move || events.take().expect("it never stands aside")),
        screen: Screen::new(drawn.clone()),
        size: || SIZE,
        mouse: false,
    };
    let key = |sign| Ok(Event::Key(KeyEvent::new(KeyCode::Char(sign), KeyModifiers::NONE)));
    let feeder = {
        let news = news.clone();
        thread::spawn(move || {
            for msg in initial_messages() {
                news.blocking_send(News::Told(msg)).unwrap();
                // Keys that come faster are taken as a paste.
                thread::sleep(KEY_INTERVAL);
            }
            let mut offsets = vec![0u64; TASKS as usize];
            let per_turn = LINES_PER_SECOND / 100 / TASKS as usize;
            let begun = Instant::now();
            let mut fed = 0usize;
            for turn in 0u32.. {
                if begun.elapsed() >= FLOOD_TIME {
                    break;
                }
                for task in 0..TASKS {
                    let (key, frame) = output(task, offsets[task as usize], per_turn);
                    offsets[task as usize] = frame.end().0;
                    fed += per_turn;
                    let msg = Msg::Output { key, task, frames: vec![frame] };
                    if news.blocking_send(News::Told(msg)).is_err() {
                        return fed;
                    }
                }
                let next = begun + Duration::from_millis(10) * (turn + 1);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            fed
        })
    };
    let typist = {
        let drawn = drawn.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            let mut waits = Vec::new();
            let begun = Instant::now();
            let mut most = 0;
            while begun.elapsed() < TYPING_TIME {
                let sign = if waits.len() % 2 == 0 { 'l' } else { 'h' };
                let pressed = Instant::now();
                keys.blocking_send(key(sign)).unwrap();
                thread::sleep(KEY_INTERVAL);
                let frames: Vec<Instant> = drawn.at.lock().unwrap().drain(..).collect();
                waits.push(frames.iter().find(|at| **at > pressed).map_or(KEY_INTERVAL, |at| *at - pressed));
                most = most.max(resident());
            }
            (waits, most)
        })
    };
    let model = Model::new(Settings::default(), "bench".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let ended = async {
        let driven = Box::pin(drive(model, console, news, inbox, None));
        tokio::select! {
            ended = driven => drop(ended),
            () = tokio::time::sleep(FLOOD_TIME + Duration::from_secs(1)) => {}
        }
    };
    local.block_on(&runtime, ended);
    let (waits, most) = typist.join().unwrap();
    let fed = feeder.join().unwrap();
    let rate = fed / usize::try_from(FLOOD_TIME.as_secs()).unwrap();
    row(&format!("key to frame at {rate} lines/s of {TASKS} agents"), waits, None);
    println!("{:<44} {:>6} MiB", "resident memory in that flood, 10,000 agents", most / 1_048_576);
}

fn main() {
    frames();
    flood();
}
