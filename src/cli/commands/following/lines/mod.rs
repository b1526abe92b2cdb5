//! Follows a job with live lines, as one JSON object, or as a stream of JSON objects.

mod follower;
mod taking;

use self::follower::Follower;
pub(super) use self::follower::follow;
