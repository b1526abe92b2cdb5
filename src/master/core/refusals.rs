//! Records refused calls and implausible reports in the audit table: each kind at once, then its count every minute, so that
//! refusals cannot fill the disk.

use std::{collections::HashMap, time::Duration};

use super::{Continuation, Core, audit, messages::Now};
use crate::domain::text::plural;

/// How long repeated refusals of one kind are only counted.
const COUNT_INTERVAL: Duration = Duration::from_mins(1);

/// The caller, and what it was refused.
type Kind = (String, String);

/// The kinds that were recorded less than [`COUNT_INTERVAL`] ago.
pub(super) type Refusals = HashMap<Kind, Again>;

/// Repetitions of one kind since it was recorded.
#[derive(Debug)]
pub(super) struct Again {
    since: Duration,
    count: u32,
    reason: String,
}

impl Core {
    pub(super) fn on_refused(&mut self, who: String, what: String, reason: String, now: Now) {
        let kind = (who, what);
        if let Some(again) = self.refusals.get_mut(&kind) {
            again.count = again.count.saturating_add(1);
            return;
        }
        let record = audit(now, &kind.0, "refused", &kind.1, reason.clone());
        self.refusals.insert(kind, Again { since: now.monotonic, count: 0, reason });
        self.persist(vec![record], Continuation::MustBeWritten);
    }

    /// Records the number of repetitions of each kind that was recorded a minute ago.
    pub(super) fn tick_refusals(&mut self, now: Now) {
        let due = self.refusals.extract_if(|_, again| now.monotonic >= again.since + COUNT_INTERVAL);
        let again = due.filter(|(_, again)| again.count > 0);
        let records: Vec<_> = again
            .map(|((who, name), again)| {
                let times = plural("time", again.count as usize);
                let detail = format!("{} more {times}: {}", again.count, again.reason);
                audit(now, &who, "refused", &name, detail)
            })
            .collect();
        if !records.is_empty() {
            self.persist(records, Continuation::MustBeWritten);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::time::UnixMs,
        master::core::{
            Policy, Remembered,
            messages::{Effect, Input},
            stored::Write,
        },
    };

    /// Takes one step, and returns the audit records of refusals that it writes.
    fn step(core: &mut Core, input: Input, second: u64) -> Vec<(String, String)> {
        let now = Now { monotonic: Duration::from_secs(second), unix_ms: UnixMs(second * 1000) };
        let mut records = Vec::new();
        for effect in core.step(input, now) {
            let Effect::Persist(token, writes, _) = effect else { continue };
            records.extend(writes.into_iter().filter_map(|write| match write {
                Write::Audit { actor, action: "refused", subject, detail, .. } => {
                    Some((format!("{actor} {subject}"), detail))
                }
                _ => None,
            }));
            let _ = core.step(Input::Persisted(token, 1), now);
        }
        records
    }

    #[test]
    fn each_kind_is_recorded_at_once_and_then_counted_by_the_minute() {
        let now = Now { monotonic: Duration::ZERO, unix_ms: UnixMs(0) };
        let mut core = Core::new(Policy::default(), Remembered { epoch: 1, ..Remembered::default() }, now);
        let refused = |who: &str, what: &str| Input::Refused {
            who: who.to_owned(),
            what: what.to_owned(),
            reason: "it needs the role admin".to_owned(),
        };
        let record = |kind: &str, detail: &str| vec![(kind.to_owned(), detail.to_owned())];
        let first = record("eve DeleteAgent", "it needs the role admin");
        assert_eq!(step(&mut core, refused("eve", "DeleteAgent"), 1), first);
        for second in 2..50 {
            assert_eq!(step(&mut core, refused("eve", "DeleteAgent"), second), []);
        }
        assert_eq!(step(&mut core, refused("eve", "CreateToken"), 50).len(), 1, "another kind");
        assert_eq!(step(&mut core, refused("bob", "DeleteAgent"), 50).len(), 1, "another caller");
        assert_eq!(step(&mut core, Input::Tick, 60), []);
        let again = record("eve DeleteAgent", "48 more times: it needs the role admin");
        assert_eq!(step(&mut core, Input::Tick, 61), again);
        assert_eq!(step(&mut core, Input::Tick, 200), [], "a single refusal is not recorded again");
        assert_eq!(step(&mut core, refused("eve", "DeleteAgent"), 201), first);
        assert!(core.refusals.len() == 1, "nothing is kept for ever");
    }
}
