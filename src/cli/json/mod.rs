//! The objects that `-o json` and `-o ndjson` print, one type for each. Scripts rely on names and meanings of
//! the fields. They are published as JSON Schemas in `assets/schema/`, and the tests check real output
//! against them.
//!
//! A value that does not exist is `null`, or omitted if the schema does not require it; a zero is a real
//! zero. Names of times and durations end with their unit; sizes and offsets are in bytes. Fields may be
//! added. `schema_version` is raised when a field is removed or changes its meaning. This module prints
//! nothing.

mod access;
mod agent;
mod document;
mod event;
mod inventory;
mod job;
mod machine;
mod outcome;

use self::document::{SCHEMA_VERSION, some};
pub(super) use self::{
    access::{OperatorList, TokenList},
    agent::AgentList,
    document::Document,
    event::{EndedFields, Event, Fields, GapFields, GateFields, LineFields},
    inventory::{Inventory, InventoryHost, NoHost},
    job::{Gap, GroupedJob, JobList, JobObject, Output, TaskObject},
    machine::{FindingList, FindingObject, MasterList, MasterStatusObject, SettingList},
};
