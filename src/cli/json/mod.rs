//! What `-o json` and `-o ndjson` print: one type for each object. Field names and meanings are what scripts rely on; they are
//! published as JSON Schemas in `assets/schema/`, against which the tests check real output.
//!
//! What does not exist is `null`, or left out where the schema does not require it; a zero is a zero. Times and durations end with
//! their unit, sizes and offsets are bytes. Fields may be added. `schema_version` is raised when a field is removed or changes
//! its meaning. Knows nothing of how objects are printed.

mod access;
mod agent;
mod event;
mod inventory;
mod job;
mod machine;
mod outcome;

use serde::Serialize;

pub(super) use self::{
    access::{OperatorList, TokenList},
    agent::AgentList,
    event::{EndedFields, Event, Fields, GapFields, GateFields, LineFields},
    inventory::{Inventory, InventoryHost, NoHost},
    job::{Gap, GroupedJob, JobList, JobObject, Output, TaskObject},
    machine::{FindingList, FindingObject, MasterList, MasterStatusObject, SettingList},
};

/// The version of all objects.
const SCHEMA_VERSION: u32 = 1;

/// An object as it is printed: its fields, behind the version of the schema.
#[derive(Debug, Serialize)]
pub(super) struct Document<T> {
    schema_version: u32,
    #[serde(flatten)]
    contents: T,
}

impl<T: Serialize> Document<T> {
    pub(super) fn new(contents: T) -> Self {
        Self { schema_version: SCHEMA_VERSION, contents }
    }
}

/// A text, where there is one.
fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
