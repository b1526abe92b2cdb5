//! The trait that converts between a domain type and its message, and the error for a message that is not
//! valid.

use super::{
    InvalidAgent, InvalidAttach, InvalidChange, InvalidEnrollment, InvalidEvent, InvalidFrame, InvalidGroup,
    InvalidJob, InvalidLabels, InvalidOperator, InvalidOptions, InvalidOutcome, InvalidPlan, InvalidProposal,
    InvalidReference, InvalidSelection, InvalidSession, InvalidStatus, InvalidTask, InvalidToken,
};
use crate::{
    domain::{code::InvalidCode, command::InvalidCommand, ids::InvalidJobId, name::InvalidName},
    wire::{bounds::OutOfBounds, proto},
};

/// The error for a message that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant says which noun is not valid")]
pub enum InvalidMessage {
    #[error(transparent)]
    Agent(#[from] InvalidAgent),
    #[error(transparent)]
    Attach(#[from] InvalidAttach),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error(transparent)]
    Change(#[from] InvalidChange),
    #[error(transparent)]
    Code(#[from] InvalidCode),
    #[error(transparent)]
    Command(#[from] InvalidCommand),
    #[error(transparent)]
    Enrollment(#[from] InvalidEnrollment),
    #[error(transparent)]
    Event(#[from] InvalidEvent),
    #[error(transparent)]
    Frame(#[from] InvalidFrame),
    #[error(transparent)]
    Group(#[from] InvalidGroup),
    #[error(transparent)]
    Job(#[from] InvalidJob),
    #[error(transparent)]
    JobId(#[from] InvalidJobId),
    #[error(transparent)]
    Labels(#[from] InvalidLabels),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Operator(#[from] InvalidOperator),
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    #[error(transparent)]
    Outcome(#[from] InvalidOutcome),
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
    #[error(transparent)]
    Proposal(#[from] InvalidProposal),
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error(transparent)]
    Selection(#[from] InvalidSelection),
    #[error(transparent)]
    Session(#[from] InvalidSession),
    #[error(transparent)]
    Status(#[from] InvalidStatus),
    #[error(transparent)]
    Task(#[from] InvalidTask),
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The kind of a `oneof` is missing, or this version does not know it.
    #[error("a message of a kind that this version does not know")]
    UnknownKind,
}

impl InvalidMessage {
    /// Reports whether the kind of the message is unknown. A newer version can send such messages.
    #[must_use]
    pub fn is_unknown_kind(&self) -> bool {
        matches!(self, Self::UnknownKind | Self::Event(InvalidEvent::Kind))
    }
}

impl From<std::convert::Infallible> for InvalidMessage {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// A domain type with a generated message that transports it.
pub trait Carried: Sized + Send + 'static {
    /// The type of the generated message.
    type Message: prost::Message + std::fmt::Debug + Default + 'static;

    /// Converts this value to its message.
    fn into_message(self) -> Self::Message;

    /// Converts a message to its value.
    ///
    /// # Errors
    /// When the message is not valid.
    fn from_message(message: Self::Message) -> Result<Self, InvalidMessage>;
}

macro_rules! carried {
    ($($domain:ty => $message:ident),* $(,)?) => {
        $(impl Carried for $domain {
            type Message = proto::$message;

            fn into_message(self) -> proto::$message {
                self.into()
            }

            fn from_message(message: proto::$message) -> Result<Self, InvalidMessage> {
                message.try_into().map_err(Into::into)
            }
        })*
    };
}

mod table {
    use super::{Carried, InvalidMessage, proto};
    use crate::domain::{
        agent::{AgentView, Drain, Facts},
        attach::{AttachRequest, AttachResponse, SignalTask, Signalled},
        command::Command,
        control::{
            ApproveAgent, Approved, CancelJob, Cancelled, CreateToken, CreatedToken, DeleteAgent, DeleteJob,
            DrainAgents, Drained, FleetChange, FollowJob, InputProgress, InputRequest, InviteOperator,
            Invited, JobDigest, JobEvent, JobsChange, LabelAgents, Labelled, ListAgents, ListJobs,
            MasterStatus, PromoteJob, Promoted, RejectAgents, RerunJob, RevokeOperator, RevokeToken,
            ShownKey, StartJob, StopAgent, StopJob, StoppedJob, TokenView, WatchAgents, WatchJob, WatchJobs,
        },
        digest::GroupDigest,
        frame::Frame,
        ids::JobReference,
        job::{Job, JobOptions, Task},
        operator::OperatorView,
        outcome::{KillProof, Outcome},
        plan::{Gate, Plan},
        proposal::Proposal,
        session::{Enroll, EnrollAnswer, FromAgent, HeldTask, LogIn, LogInAnswer, ToAgent},
        target::selection::Selection,
        terms::Terms,
    };

    carried! {
        AgentView => Agent,
        ApproveAgent => ApproveAgentRequest,
        Approved => ApproveAgentResponse,
        AttachRequest => AttachRequest,
        AttachResponse => AttachResponse,
        CancelJob => CancelJobRequest,
        Cancelled => CancelJobResponse,
        Command => Command,
        CreateToken => CreateTokenRequest,
        CreatedToken => CreateTokenResponse,
        DeleteAgent => DeleteAgentRequest,
        DeleteJob => DeleteJobRequest,
        Drain => Drain,
        DrainAgents => DrainAgentsRequest,
        Drained => DrainAgentsResponse,
        Enroll => EnrollRequest,
        EnrollAnswer => EnrollResponse,
        Facts => Facts,
        FleetChange => WatchAgentsResponse,
        FollowJob => FollowJobRequest,
        Frame => Frame,
        FromAgent => SessionResponse,
        Gate => Gate,
        GroupDigest => Group,
        HeldTask => HeldTask,
        InputProgress => SendInputResponse,
        InputRequest => SendInputRequest,
        InviteOperator => InviteOperatorRequest,
        Invited => InviteOperatorResponse,
        Job => Job,
        JobDigest => WatchJobResponse,
        JobEvent => FollowJobResponse,
        JobOptions => JobOptions,
        JobReference => JobReference,
        JobsChange => WatchJobsResponse,
        KillProof => KillProof,
        LabelAgents => LabelAgentsRequest,
        Labelled => LabelAgentsResponse,
        ListAgents => ListAgentsRequest,
        ListJobs => ListJobsRequest,
        LogIn => LogInRequest,
        LogInAnswer => LogInResponse,
        MasterStatus => GetStatusResponse,
        OperatorView => Operator,
        Outcome => Outcome,
        Plan => Plan,
        PromoteJob => PromoteJobRequest,
        Promoted => PromoteJobResponse,
        Proposal => Proposal,
        RejectAgents => RejectAgentRequest,
        RerunJob => RerunJobRequest,
        RevokeOperator => RevokeOperatorRequest,
        RevokeToken => RevokeTokenRequest,
        Selection => Selection,
        ShownKey => ShownKey,
        SignalTask => SignalRequest,
        Signalled => SignalResponse,
        StartJob => StartJobRequest,
        StopAgent => StopAgentRequest,
        StopJob => StopJobRequest,
        StoppedJob => StopJobResponse,
        Task => Task,
        Terms => TokenTerms,
        ToAgent => SessionRequest,
        TokenView => Token,
        WatchAgents => WatchAgentsRequest,
        WatchJob => WatchJobRequest,
        WatchJobs => WatchJobsRequest,
    }
}
