//! Tests that values survive the conversion in both directions, and that invalid messages are refused.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use self::values::{
    agent, attach_request, attach_response, closing, command, frame, gate, group, job, job_event, job_id,
    name, options, outcome, plan, proposal, reference, revision, selection,
};
use super::Carried;
use crate::{
    domain::{
        attach::{AttachRequest, AttachResponse},
        code::{Code, KeyMark},
        control::{
            ApproveAgent, ChangeLabels, FollowJob, JobDigest, JobEvent, LabelAgents, ListAgents, ListJobs,
            NamedProposal, RejectAgents, ShownKey, StartJob, TaskOffset,
        },
        fingerprint::Fingerprint,
        frame::{Frame, Stream},
        offset::OutputOffset,
        outcome::JobResult,
        session::{
            DirectState, Echo, EnrollAnswer, LinkReport, Ping, RefusalKind, SentAt, SessionRefused, ToAgent,
        },
        terms::Terms,
    },
    wire::proto,
};

mod values;

/// Checks that the conversion of a value to its message and back returns an equal value.
fn survives<T: Carried + Clone + PartialEq + std::fmt::Debug>(value: T) -> Result<(), TestCaseError> {
    prop_assert_eq!(T::from_message(value.clone().into_message()), Ok(value));
    Ok(())
}

proptest! {
    #[test]
    fn outcomes_plans_and_frames_survive_the_wire(
        outcome in outcome(), plan in plan(), frame in frame(), gate in gate()
    ) {
        survives(outcome)?;
        survives(plan)?;
        survives(frame)?;
        survives(gate)?;
    }

    #[test]
    fn jobs_and_their_events_survive_the_wire(
        job in job(), event in job_event(), groups in vec(group(), 0..3), gate in gate()
    ) {
        let digest = JobDigest { job: Some(Box::new(job.clone())), groups, gate, ..JobDigest::default() };
        survives(job)?;
        survives(event)?;
        survives(digest)?;
    }

    #[test]
    fn messages_of_an_attach_survive_the_wire(request in attach_request(), response in attach_response()) {
        survives(request)?;
        survives(response)?;
    }

    #[test]
    fn requests_survive_the_wire(
        id in job_id(), selection in selection(), command in command(), options in options(),
        job in reference(), name in name(), proposal in proposal(), seen in any::<u64>()
    ) {
        survives(ListAgents::Selected(selection.clone()))?;
        let fingerprint = Fingerprint::of(b"key");
        let shown = vec![ShownKey { fingerprint, proposal: proposal.clone() }];
        let mark = KeyMark::Code(Code::from_random([7; 10]));
        survives(ApproveAgent { name: name.clone(), mark, shown })?;
        survives(RejectAgents::Named { name: name.clone(), digits: "4F2A".to_owned() })?;
        let change = ChangeLabels::Accept(vec![NamedProposal { name: name.clone(), proposal }]);
        survives(LabelAgents { selection: selection.clone(), now: true, change })?;
        let change = ChangeLabels::Set(vec!["role=web".parse().unwrap(), "rack-".parse().unwrap()]);
        survives(LabelAgents { selection: selection.clone(), now: false, change })?;
        survives(StartJob { id, selection, command, options, shown: Vec::new(), follow: true })?;
        let seen = vec![TaskOffset { task: 3, offset: OutputOffset(seen) }];
        survives(FollowJob { agents: vec![name.clone()], until_offset: Some(OutputOffset::START), seen, ..FollowJob::new(job) })?;
        for result in JobResult::all() {
            survives(ListJobs { result: Some(result), agent: Some(name.clone()), ..ListJobs::default() })?;
        }
    }

    #[test]
    fn agents_survive_the_wire(agent in agent(), more in agent()) {
        survives(agent.clone())?;
        survives(vec![agent, more])?;
    }

    #[test]
    fn messages_of_a_session_survive_the_wire(revision in revision(), closing in closing(), at in any::<[u64; 4]>()) {
        let sent = SentAt { clock: at[0], at_ms: at[1] };
        let echo = Some(Echo { at_ms: at[2], age_ms: at[3] });
        survives(ToAgent::Ping(Ping { sent, echo, revision: Some(revision) }))?;
        survives(ToAgent::Closing(closing))?;
        for kind in [RefusalKind::UnknownKey, RefusalKind::Protocol, RefusalKind::Duplicate, RefusalKind::Busy] {
            let message = "x".to_owned();
            survives(ToAgent::Refused(SessionRefused { kind, message, retry_after_ms: 1 }))?;
        }
        for state in [DirectState::Connected, DirectState::Unreachable, DirectState::Proposed] {
            survives(ToAgent::Link(LinkReport { state }))?;
        }
        survives(EnrollAnswer::Refused { reason: "no".to_owned(), retry_after_ms: None })?;
    }
}

#[test]
fn output_is_not_copied() {
    let data = Bytes::from(vec![b'x'; 1_000]);
    let frame = Frame { stream: Stream::Stdout, offset: OutputOffset::START, time_ns: 0, data: data.clone() };
    let AttachResponse::Output(frames) =
        AttachResponse::from_message(AttachResponse::Output(vec![frame]).into_message()).unwrap()
    else {
        panic!("it is output")
    };
    assert_eq!(frames[0].data.as_ptr(), data.as_ptr());
}

#[test]
fn terms_that_make_no_sense_are_refused() {
    let label = |key: String| proto::Label { key, value: "x".to_owned() };
    for wrong in [
        proto::TokenTerms { labels: vec![label("a b".to_owned())], ..Default::default() },
        proto::TokenTerms { labels: (0..65).map(|n| label(format!("k{n}"))).collect(), ..Default::default() },
        proto::TokenTerms { names: Some("@role:db".to_owned()), ..Default::default() },
        proto::TokenTerms { from: vec!["10.0.0.0/40".to_owned()], ..Default::default() },
        proto::TokenTerms { direct: vec!["a b".to_owned()], ..Default::default() },
        proto::TokenTerms { from: vec!["10.0.0.0/8".to_owned(); 65], ..Default::default() },
    ] {
        assert!(Terms::from_message(wrong.clone()).is_err(), "{wrong:?}");
    }
    assert_eq!(Terms::from_message(proto::TokenTerms::default()), Ok(Terms::default()));
}

#[test]
fn what_this_version_does_not_know_is_not_taken_for_anything_else() {
    let of = |role, result| {
        let invite = proto::InviteOperatorRequest { name: "ana".into(), role, ..Default::default() };
        let list = proto::ListJobsRequest { result, ..Default::default() };
        (
            crate::domain::control::InviteOperator::from_message(invite).is_ok(),
            ListJobs::from_message(list).is_ok(),
        )
    };
    assert_eq!(of(3, 11), (true, true));
    assert_eq!(of(4, 12), (false, false), "a role that is none, and a result that lists no job");
    let digits = proto::RejectAgentRequest { name: None, fingerprint: Some("4F2A".into()) };
    assert!(RejectAgents::from_message(digits).is_err(), "not all keys");
    assert!(JobEvent::from_message(proto::FollowJobResponse::default()).unwrap_err().is_unknown_kind());
    assert!(AttachRequest::from_message(proto::AttachRequest::default()).unwrap_err().is_unknown_kind());
}
