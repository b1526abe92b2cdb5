//! What all printed objects have in common.

use serde::Serialize;

/// The schema version of all objects.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// A printed object: the schema version and its fields.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Document<T> {
    schema_version: u32,
    #[serde(flatten)]
    contents: T,
}

impl<T: Serialize> Document<T> {
    pub(in crate::cli) fn new(contents: T) -> Self {
        Self { schema_version: SCHEMA_VERSION, contents }
    }
}

/// Returns a text, unless it is empty.
pub(super) fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
