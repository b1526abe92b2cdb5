//! Requests of operators to a master and the master's answers: one type for each.
//!
//! Does not depend on the transport or on the code that answers. Times are in milliseconds since the Unix
//! epoch, by the master's clock.

mod access;
mod agents;
mod input;
mod jobs;
mod status;

pub use self::{
    access::{CreateToken, CreatedToken, InviteOperator, Invited, RevokeOperator, RevokeToken, TokenView},
    agents::{
        ApproveAgent, Approved, ChangeLabels, DeleteAgent, DrainAgents, Drained, FleetChange, FleetCursor,
        LabelAgents, Labelled, ListAgents, NamedProposal, RejectAgents, ShownAgent, ShownKey, StopAgent,
        WatchAgents,
    },
    input::{InputProgress, InputRequest, InputTaken, Stdin, WindowSize},
    jobs::{
        CancelJob, Cancelled, DeleteJob, FollowJob, JobDigest, JobEvent, JobsChange, ListJobs, PromoteJob,
        Promoted, RerunJob, StartJob, StopJob, StoppedJob, TaskGap, TaskOffset, WatchJob, WatchJobs,
    },
    status::{Closing, MasterStatus},
};
