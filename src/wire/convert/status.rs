//! The state of a master.

use super::{
    InvalidProposal,
    proposal::{fingerprint_in, fingerprint_out},
};
use crate::{domain::control::MasterStatus, wire::proto};

/// The error for a state of a master that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStatus {
    /// The fingerprint of the master's CA is not valid.
    #[error("the master's CA: {0}")]
    Ca(#[from] InvalidProposal),
}

impl From<MasterStatus> for proto::GetStatusResponse {
    fn from(status: MasterStatus) -> Self {
        Self {
            cluster: status.cluster,
            software_version: status.version,
            ca_fingerprint: fingerprint_out(status.ca_fingerprint),
            address: status.address,
            agents: status.agents,
            connected: status.connected,
            pending: status.pending,
            active_jobs: status.active_jobs,
            refusing_jobs: status.refusing_jobs,
            enroll_any: status.enroll_any,
            refused_unauthenticated: status.refused_unauthenticated,
            uptime_s: status.uptime_s,
            pid: status.pid,
            hostname: status.hostname,
            operator: status.operator,
            restore_warning: status.restore_warning,
            holding_back: status.holding_back,
        }
    }
}

impl TryFrom<proto::GetStatusResponse> for MasterStatus {
    type Error = InvalidStatus;

    fn try_from(status: proto::GetStatusResponse) -> Result<Self, InvalidStatus> {
        Ok(Self {
            cluster: status.cluster,
            version: status.software_version,
            ca_fingerprint: fingerprint_in(&status.ca_fingerprint)?,
            address: status.address,
            agents: status.agents,
            connected: status.connected,
            pending: status.pending,
            active_jobs: status.active_jobs,
            refusing_jobs: status.refusing_jobs,
            enroll_any: status.enroll_any,
            refused_unauthenticated: status.refused_unauthenticated,
            uptime_s: status.uptime_s,
            pid: status.pid,
            hostname: status.hostname,
            operator: status.operator,
            restore_warning: status.restore_warning,
            holding_back: status.holding_back,
        })
    }
}
