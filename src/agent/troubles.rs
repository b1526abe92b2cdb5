//! Problems of the machine that do not prevent the agent from working, such as a port that is in use. The
//! agent reports them to the master, and `agent list` shows them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A kind of trouble. There is at most one of each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The agent cannot listen for a direct link.
    Listen,
    /// The agent cannot serve metrics.
    Metrics,
    /// The machine has no free process ids.
    Processes,
}

/// The current problems, as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles(Arc<Mutex<BTreeMap<Trouble, String>>>);

impl Troubles {
    fn now(&self) -> MutexGuard<'_, BTreeMap<Trouble, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a problem, or with `None` its end. Returns true if that is a change.
    #[must_use]
    pub(crate) fn note(&self, trouble: Trouble, text: Option<String>) -> bool {
        let mut now = self.now();
        match text {
            Some(text) => now.insert(trouble, text.clone()) != Some(text),
            None => now.remove(&trouble).is_some(),
        }
    }

    /// Returns the text of each problem.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<String> {
        self.now().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_news_once_and_its_end_too() {
        let troubles = Troubles::default();
        assert!(!troubles.note(Trouble::Listen, None));
        assert!(troubles.note(Trouble::Metrics, Some("taken".into())));
        assert!(!troubles.note(Trouble::Metrics, Some("taken".into())));
        assert!(troubles.note(Trouble::Listen, Some("no address".into())));
        assert_eq!(troubles.all(), ["no address", "taken"]);
        assert!(troubles.note(Trouble::Listen, None));
        assert_eq!(troubles.all(), ["taken"]);
    }
}
