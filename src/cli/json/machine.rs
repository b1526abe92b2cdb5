//! Masters, settings, and the findings of `doctor`.

use serde::Serialize;
use toml::Value;

use super::some;
use crate::{
    cli::{config::Shown, masters::KnownMaster},
    domain::{control::MasterStatus, fingerprint::Fingerprint},
};

/// `master status`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct MasterStatusObject<'a> {
    cluster: &'a str,
    version: &'a str,
    ca_fingerprint: &'a Fingerprint,
    address: &'a str,
    hostname: &'a str,
    pid: u32,
    uptime_s: u64,
    agents: u32,
    connected: u32,
    pending: u32,
    active_jobs: u32,
    /// Why new jobs are refused.
    refusing_jobs: Option<&'a str>,
    /// How many running tasks wait because their output cannot be written, and why.
    holding_back: Option<&'a str>,
    /// Which agents have seen a later revision of the master's store.
    restore_warning: Option<&'a str>,
    enroll_any: bool,
    refused_unauthenticated: u64,
}

impl<'a> MasterStatusObject<'a> {
    pub(in crate::cli) fn new(status: &'a MasterStatus) -> Self {
        Self {
            cluster: &status.cluster,
            version: &status.version,
            ca_fingerprint: &status.ca_fingerprint,
            address: &status.address,
            hostname: &status.hostname,
            pid: status.pid,
            uptime_s: status.uptime_s,
            agents: status.agents,
            connected: status.connected,
            pending: status.pending,
            active_jobs: status.active_jobs,
            refusing_jobs: status.refusing_jobs.as_deref(),
            holding_back: status.holding_back.as_deref(),
            restore_warning: status.restore_warning.as_deref(),
            enroll_any: status.enroll_any,
            refused_unauthenticated: status.refused_unauthenticated,
        }
    }
}

/// `master list`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct MasterList<'a> {
    masters: Vec<MasterObject<'a>>,
}

impl<'a> MasterList<'a> {
    pub(in crate::cli) fn new(
        all: impl IntoIterator<Item = (&'a str, &'a KnownMaster)>,
        selected: Option<&str>,
    ) -> Self {
        let master = |(name, known)| MasterObject::new(name, known, selected == Some(name));
        Self { masters: all.into_iter().map(master).collect() }
    }
}

/// A stored master.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct MasterObject<'a> {
    name: &'a str,
    address: &'a str,
    operator: Option<&'a str>,
    role: Option<&'a str>,
    ca_fingerprint: Option<&'a str>,
    key_fingerprint: Option<&'a str>,
    selected: bool,
}

impl<'a> MasterObject<'a> {
    fn new(name: &'a str, known: &'a KnownMaster, selected: bool) -> Self {
        Self {
            name,
            address: &known.address,
            operator: some(&known.operator),
            role: some(&known.role),
            ca_fingerprint: some(&known.ca_fingerprint),
            key_fingerprint: some(&known.key_fingerprint),
            selected,
        }
    }
}

/// `config show`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct SettingList<'a> {
    settings: Vec<SettingObject<'a>>,
}

impl<'a> SettingList<'a> {
    pub(in crate::cli) fn new(settings: &'a [Shown]) -> Self {
        let setting = |shown: &'a Shown| SettingObject {
            section: shown.section,
            key: &shown.key,
            value: shown.value.as_ref(),
            origin: &shown.origin,
        };
        Self { settings: settings.iter().map(setting).collect() }
    }
}

/// A setting.
#[derive(Debug, Serialize)]
struct SettingObject<'a> {
    section: &'a str,
    key: &'a str,
    /// A string, a number, a boolean or a list of them.
    value: Option<&'a Value>,
    /// A file, an environment variable, or `default`.
    origin: &'a str,
}

/// `doctor`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct FindingList<'a> {
    pub(in crate::cli) findings: Vec<FindingObject<'a>>,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct FindingObject<'a> {
    /// `well`, `note` or `bad`.
    grade: &'static str,
    what: &'a str,
    /// How to fix it; `None` if there is nothing to fix.
    remedy: Option<&'a str>,
}

impl<'a> FindingObject<'a> {
    pub(in crate::cli) fn new(grade: &'static str, what: &'a str, remedy: &'a str) -> Self {
        Self { grade, what, remedy: some(remedy) }
    }
}
