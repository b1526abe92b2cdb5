//! Generates values of every kind for proptest.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*, string::string_regex};

use crate::domain::{
    agent::{AgentState, AgentView, Drain, LastSeen, LinkKind},
    attach::{AttachRequest, AttachResponse, Open, StartPermission},
    command::{Command, TaskSpec, Variable},
    control::{Closing, JobEvent, Stdin, TaskGap},
    digest::GroupDigest,
    frame::{Frame, Stream},
    groups::{Parting, mask::Masks},
    ids::{Incarnation, JobId, JobReference, TaskId},
    input::{StandardInput, Terminal},
    job::{Job, JobOptions, LeftOut, LeftOutKind, Overflow, Task, TaskState},
    name::{AgentName, Label, LabelWord},
    offset::OutputOffset,
    outcome::{Ending, KillProof, Outcome, Survivor, TaskEnding},
    plan::{Gate, GateState, Plan, StopIf},
    proposal::{DirectAddress, Proposal},
    revision::{Revision, SealedRevision},
    session::SentAt,
    share::Share,
    target::selection::{Sample, Selection},
    time::UnixMs,
};

pub(super) fn name() -> impl Strategy<Value = AgentName> {
    string_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,20}").unwrap().prop_map(|name| name.parse().unwrap())
}

pub(super) fn text() -> impl Strategy<Value = String> {
    string_regex("[ -~]{0,40}").unwrap()
}

pub(super) fn label() -> impl Strategy<Value = (LabelWord, LabelWord)> {
    string_regex("[a-z]{1,8}=[a-z0-9]{1,8}").unwrap().prop_map(|label| {
        let Label { key, value } = label.parse().unwrap();
        (key, value)
    })
}

pub(super) fn address() -> impl Strategy<Value = DirectAddress> {
    (string_regex("[a-z]{1,12}").unwrap(), 1..u16::MAX)
        .prop_map(|(host, port)| DirectAddress::new(&host, port, None).unwrap())
}

pub(super) fn proposal() -> impl Strategy<Value = Proposal> {
    (vec(label(), 0..4), option::of(address()))
        .prop_map(|(labels, direct)| Proposal::new(labels.into_iter().collect(), direct))
}

pub(super) fn outcome() -> impl Strategy<Value = Outcome> {
    let survivor = (any::<u32>(), text()).prop_map(|(pid, state)| Survivor { pid, state: state.into() });
    let proof = (any::<u32>(), vec(survivor, 0..4), any::<u32>())
        .prop_map(|(ended, left, more)| KillProof::new(ended, left, more))
        .boxed();
    let seal = option::of(any::<[u8; 32]>().prop_map(Into::into));
    let ending = prop_oneof![
        any::<u8>().prop_map(Ending::Exited),
        (1..=64i32).prop_map(Ending::Signaled),
        proof.clone().prop_map(Ending::TimedOut),
        (option::of(proof), text(), seal).prop_map(|(proof, by, seal)| Ending::Cancelled {
            proof,
            by: by.into(),
            seal
        }),
        text().prop_map(|reason| Ending::Refused(reason.into())),
        text().prop_map(|reason| Ending::Undeliverable(reason.into())),
        text().prop_map(|reason| Ending::Lost(reason.into())),
        text().prop_map(|reason| Ending::Skipped(reason.into())),
    ];
    (ending, any::<u32>()).prop_map(|(ending, background)| Outcome { ending, background })
}

pub(super) fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
}

pub(super) fn frame() -> impl Strategy<Value = Frame> {
    (stream(), 0..1u64 << 60, any::<u64>(), vec(any::<u8>(), 1..50)).prop_map(
        |(stream, offset, time_ns, data)| Frame {
            stream,
            offset: OutputOffset(offset),
            time_ns,
            data: data.into(),
        },
    )
}

pub(super) fn share() -> impl Strategy<Value = Share> {
    prop_oneof![any::<u32>().prop_map(Share::Count), (0..=100u32).prop_map(Share::Percent)]
}

pub(super) fn masks() -> impl Strategy<Value = Masks> {
    any::<[bool; 3]>().prop_map(|[names, times, numbers]| Masks { names, times, numbers })
}

pub(super) fn plan() -> impl Strategy<Value = Plan> {
    let count = || option::of(1..u32::MAX);
    let shares = (option::of(share()), option::of(share()));
    (count(), count(), shares, option::of(1..1_000_000u64), any::<[bool; 2]>(), masks()).prop_map(
        |(fanout, canary, (batch, max_failures), pause_ms, [failures, differs], masks)| Plan {
            fanout,
            canary,
            batch,
            max_failures,
            pause_ms,
            stop_if: StopIf { failures, differs },
            masks,
        },
    )
}

pub(super) fn gate() -> impl Strategy<Value = Gate> {
    let state = prop_oneof![
        Just(GateState::Open),
        text().prop_map(|reason| GateState::Held(reason.into())),
        text().prop_map(|reason| GateState::Stopped(reason.into())),
    ];
    (any::<u32>(), state).prop_map(|(open_batch, state)| Gate { open_batch, state, ..Gate::default() })
}

pub(super) fn selection() -> impl Strategy<Value = Selection> {
    let target = prop_oneof![Just("@all"), Just("web-[1-9]!web-3"), Just("@role:web&@dc:ams")];
    let selector = option::of(prop_oneof![Just("role=web"), Just("env!=test,!x")]);
    let sample = option::of((share(), any::<u64>()).prop_map(|(limit, seed)| Sample { limit, seed }));
    (target, selector, option::of(Just("db-*")), sample).prop_map(|(target, selector, exclude, sample)| {
        Selection {
            target: target.parse().unwrap(),
            selector: selector.map(|text| text.parse().unwrap()),
            exclude: exclude.map(|text| text.parse().unwrap()),
            sample,
        }
    })
}

pub(super) fn input() -> impl Strategy<Value = StandardInput> {
    prop_oneof![
        Just(StandardInput::Nothing),
        Just(StandardInput::Stream),
        (text(), any::<u16>(), any::<u16>()).prop_map(|(kind, rows, columns)| {
            StandardInput::Terminal(Terminal { kind: kind.into(), rows, columns })
        }),
    ]
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    vec(vec(1..=u8::MAX, 1..20), 1..4).prop_map(|words| Command::new(words).unwrap())
}

pub(super) fn variables() -> impl Strategy<Value = Vec<Variable>> {
    let variable = (string_regex("[A-Z]{1,8}").unwrap(), text());
    vec(variable.prop_map(|(name, value)| Variable::new(name.into(), value.into()).unwrap()), 0..3)
}

pub(super) fn options() -> impl Strategy<Value = JobOptions> {
    let times = (option::of(1..1_000_000u64), option::of(1..1_000_000u64), option::of(1..u32::MAX));
    let overflow = prop_oneof![Just(Overflow::Block), Just(Overflow::Gap)];
    (variables(), times, any::<bool>(), plan(), overflow, option::of(1..u64::MAX), input()).prop_map(
        |(
            environment,
            (timeout_ms, start_within_ms, kill_grace_ms),
            now,
            plan,
            overflow,
            output_cap,
            input,
        )| {
            JobOptions {
                environment,
                timeout_ms,
                start_within_ms,
                kill_grace_ms,
                now,
                plan,
                overflow,
                output_cap,
                input,
                ..JobOptions::default()
            }
        },
    )
}

pub(super) fn job_id() -> impl Strategy<Value = JobId> {
    (0..1u64 << 47, any::<u128>()).prop_map(|(ms, random)| JobId::from_parts(ms, random))
}

pub(super) fn reference() -> impl Strategy<Value = JobReference> {
    prop_oneof![
        job_id().prop_map(JobReference::Id),
        (0..1u64 << 62).prop_map(JobReference::Number),
        Just(JobReference::Last)
    ]
}

pub(super) fn task() -> impl Strategy<Value = Task> {
    let state = prop_oneof![
        Just(TaskState::Queued),
        Just(TaskState::Dispatched),
        Just(TaskState::Running),
        outcome().prop_map(TaskState::Ended),
    ];
    let times = (option::of(any::<u64>()), option::of(any::<u64>()), any::<u64>(), any::<u64>());
    (0..1000u32, name(), state, times, text(), option::of(outcome())).prop_map(
        |(
            index,
            agent,
            state,
            (no_contact_since_ms, started_ms, duration_ns, end_offset),
            waiting,
            later,
        )| {
            Task {
                state,
                no_contact_since_ms: no_contact_since_ms.map(UnixMs),
                started_ms: started_ms.map(UnixMs),
                duration_ns,
                end_offset: OutputOffset(end_offset),
                batch: index % 7,
                waiting: waiting.into(),
                later,
                ..Task::queued(index, agent)
            }
        },
    )
}

pub(super) fn job() -> impl Strategy<Value = Job> {
    let kind = prop_oneof![
        Just(LeftOutKind::Other),
        Just(LeftOutKind::Draining),
        Just(LeftOutKind::Changed),
        Just(LeftOutKind::NewMatch)
    ];
    let left = (text(), kind, text(), any::<bool>()).prop_map(|(agent, kind, reason, named)| LeftOut {
        agent,
        kind,
        reason: reason.into(),
        named,
    });
    (job_id(), command(), vec(task(), 0..3), vec(left, 0..3), gate(), masks(), option::of(any::<u64>()))
        .prop_map(|(id, command, tasks, left_out, gate, masks, ended_ms)| Job {
            id,
            command,
            ended_ms: ended_ms.map(UnixMs),
            left_out,
            gate,
            masks,
            ..Job::for_tests(tasks)
        })
}

pub(super) fn spec() -> impl Strategy<Value = TaskSpec> {
    (command(), variables(), option::of(1..1_000_000u64), input(), option::of(any::<[u8; 32]>())).prop_map(
        |(command, environment, timeout_ms, input, seal)| TaskSpec {
            command,
            environment,
            timeout_ms,
            input,
            seal: seal.map(Into::into),
            ..TaskSpec::example()
        },
    )
}

pub(super) fn revision() -> impl Strategy<Value = SealedRevision> {
    (any::<u64>(), any::<u64>(), option::of(any::<[u8; 32]>())).prop_map(|(epoch, number, seal)| {
        SealedRevision { revision: Revision { epoch, number }, seal: seal.map(Into::into) }
    })
}

pub(super) fn attach_request() -> impl Strategy<Value = AttachRequest> {
    let id = (job_id(), 0..1_000u32).prop_map(|(job, index)| TaskId { job, index });
    let within = (0..20_000u64).prop_map(Duration::from_millis);
    let start = option::of((spec(), within).prop_map(|(spec, within)| StartPermission { spec, within }));
    let sent = option::of((any::<u64>(), any::<u64>()).prop_map(|(clock, at_ms)| SentAt { clock, at_ms }));
    let open = (id, any::<u64>(), start, any::<[u64; 2]>(), text(), revision(), sent).prop_map(
        |(id, attempt, start, [from_offset, grant_to], incarnation, revision, sent)| {
            let incarnation = Incarnation::from(incarnation);
            let open = Open {
                id,
                attempt,
                start,
                from_offset: OutputOffset(from_offset),
                incarnation,
                grant_to: OutputOffset(grant_to),
                revision,
                sent,
            };
            AttachRequest::Open(Box::new(open))
        },
    );
    prop_oneof![
        open,
        any::<u64>().prop_map(|to| AttachRequest::Grant(OutputOffset(to))),
        any::<u64>().prop_map(|to| AttachRequest::Acknowledge(OutputOffset(to))),
        Just(AttachRequest::OutcomeStored),
        (any::<u64>(), vec(any::<u8>(), 0..20), any::<bool>()).prop_map(|(offset, data, is_end)| {
            AttachRequest::Stdin(Stdin { offset, data: data.into(), is_end })
        }),
    ]
}

pub(super) fn gap() -> impl Strategy<Value = TaskGap> {
    (any::<u64>(), any::<u64>(), text()).prop_map(|(from, to, reason)| TaskGap {
        from: OutputOffset(from),
        to: OutputOffset(to),
        reason,
    })
}

pub(super) fn closing() -> impl Strategy<Value = Closing> {
    (text(), any::<u32>()).prop_map(|(reason, retry_after_ms)| Closing { reason, retry_after_ms })
}

pub(super) fn attach_response() -> impl Strategy<Value = AttachResponse> {
    let ended = (outcome(), any::<u64>(), any::<u64>()).prop_map(|(outcome, end_offset, duration_ns)| {
        TaskEnding { outcome, end_offset: OutputOffset(end_offset), duration_ns }
    });
    prop_oneof![
        any::<u64>().prop_map(|elapsed_ns| AttachResponse::Started { elapsed_ns }),
        vec(frame(), 0..4).prop_map(AttachResponse::Output),
        ended.prop_map(AttachResponse::Ended),
        (text(), text()).prop_map(|(incarnation, reason)| AttachResponse::Unknown {
            incarnation: Incarnation::from(incarnation),
            reason
        }),
        any::<u64>().prop_map(|by| AttachResponse::Superseded { by }),
        closing().prop_map(AttachResponse::Closing),
        gap().prop_map(AttachResponse::Gap),
        option::of(text()).prop_map(AttachResponse::Held),
    ]
}

pub(super) fn job_event() -> impl Strategy<Value = JobEvent> {
    prop_oneof![
        job().prop_map(|job| JobEvent::Job(Box::new(job))),
        task().prop_map(|task| JobEvent::Task(Box::new(task))),
        (any::<u32>(), vec(frame(), 0..4)).prop_map(|(task, frames)| JobEvent::Output { task, frames }),
        (any::<u32>(), gap()).prop_map(|(task, gap)| JobEvent::Gap { task, gap }),
        gate().prop_map(JobEvent::Gate),
        any::<u64>().prop_map(|ended_ms| JobEvent::Ended { ended_ms: UnixMs(ended_ms) }),
        vec(name(), 0..3).prop_map(|more| JobEvent::TargetChanged { gone: Vec::new(), more }),
        text().prop_map(JobEvent::Refused),
        closing().prop_map(JobEvent::Closing),
    ]
}

pub(super) fn group() -> impl Strategy<Value = GroupDigest> {
    let first = option::of((stream(), vec(any::<u8>(), 0..20)));
    let parting = option::of((stream(), any::<u64>()).prop_map(|(stream, line)| Parting { stream, line }));
    (vec(any::<u32>(), 0..5), option::of(outcome()), any::<[u64; 2]>(), parting, first, any::<bool>())
        .prop_map(|(tasks, outcome, lines, parting, first, is_long)| GroupDigest {
            tasks,
            outcome,
            lines,
            parting,
            is_long,
            first_line_stream: first.as_ref().map(|(stream, _)| *stream),
            first_line: first.map(|(_, line)| line).unwrap_or_default(),
            quiet: vec![(3, UnixMs(4))],
            last_error: b"E: no".to_vec(),
            differing_line: b"5.15".to_vec(),
            usual_line: b"6.1".to_vec(),
            ..GroupDigest::default()
        })
}

pub(super) fn agent() -> impl Strategy<Value = AgentView> {
    let state = prop_oneof![Just(AgentState::Active), Just(AgentState::Late), Just(AgentState::Pending)];
    let link = option::of(prop_oneof![Just(LinkKind::Direct), Just(LinkKind::Tunnel)]);
    let seen = option::of(
        (any::<u64>(), any::<u64>()).prop_map(|(at_ms, ago_ms)| LastSeen { at_ms: UnixMs(at_ms), ago_ms }),
    );
    let drain = option::of((text(), text()).prop_map(|(reason, by)| Drain {
        reason: reason.into(),
        by: by.into(),
        since_ms: UnixMs(5),
    }));
    (name(), state, link, seen, drain, proposal(), vec(label(), 0..4), option::of(address())).prop_map(
        |(name, state, link, last_seen, drain, proposed, labels, direct_address)| AgentView {
            state,
            link,
            last_seen,
            drain,
            proposed,
            labels: labels.into_iter().collect(),
            direct_address,
            ..AgentView::for_tests(name.as_str())
        },
    )
}
