//! The inputs, answers and effects of the core. Plain data: no channel, no clock, no generated types.

mod answer;
mod effect;
mod ids;
mod input;
mod request;

pub use self::{
    answer::{
        AcceptedProposals, Answer, EndedJob, EnrollAnswer, InvitedOperator, JobStart, LabelledAgents,
        NewToken, OperatorIdentity, PendingAnswer, Principal, Refusable, RepeatableJob, Reply,
        SessionAccepted, SessionDenied, SessionRefusal,
    },
    effect::{AttachOrder, Effect, WriteDurability},
    ids::{Now, SessionId, WriteId},
    input::Input,
    request::{ConnectionIdentity, EnrollAsked, Invitation, JobAsked, Newcomer},
};
pub use super::{
    denied::{Denied, JobDenied},
    jobs::HeldBy,
    snapshot::{Choice, Snapshot},
};
pub use crate::domain::reply_to::{ReplyTo, Ticket};
