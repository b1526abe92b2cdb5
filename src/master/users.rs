//! Looks up the names of the system's users. The name service may use the network, so lookups run on a thread of their own with a
//! time limit, and only a few at once. Knows no operators.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::unistd::{Uid, User};
use tokio::sync::Semaphore;

/// How long an answer is cached.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// How long to wait for an answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for the name of an administrator.
const ADMIN_LOOKUP_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum number of concurrent lookups. A service that hangs blocks at most this many threads.
const MAX_LOOKUPS: usize = 4;
/// Maximum number of concurrent lookups of administrators, which never wait for other lookups.
const AT_ONCE_OF_ADMINS: usize = 2;
/// Maximum number of cached answers.
const MAX_CACHED_ANSWERS: usize = 256;

/// Looks up the names of users. Answers are cached for a moment: calls of one user come in bursts, and a
/// lookup often takes longer than the call itself.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    answers: Arc<Mutex<HashMap<u32, (String, Instant)>>>,
    everybody: LookupLimiter,
    admins: LookupLimiter,
}

/// Limits the number and the duration of lookups.
#[derive(Clone, Debug)]
struct LookupLimiter {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl LookupLimiter {
    fn new(at_once: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(at_once)), patience }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let asked = async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| NoAnswer)?;
            let answer = tokio::task::spawn_blocking(move || {
                let _place = place;
                question()
            });
            answer.await.map_err(|_| NoAnswer)
        };
        tokio::time::timeout(self.patience, asked).await.map_err(|_| NoAnswer)?
    }
}

impl Default for Users {
    fn default() -> Self {
        Self {
            answers: Arc::default(),
            everybody: LookupLimiter::new(MAX_LOOKUPS, LOOKUP_TIMEOUT),
            admins: LookupLimiter::new(AT_ONCE_OF_ADMINS, ADMIN_LOOKUP_TIMEOUT),
        }
    }
}

/// The name service does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the machine's name service does not answer; check nsswitch.conf and the services in it")]
pub(crate) struct NoAnswer;

impl Users {
    /// Returns a user's name, or `uid N` if the system knows none or does not answer.
    pub(crate) async fn name(&self, uid: u32) -> String {
        self.name_by(&self.everybody, uid).await
    }

    /// Returns the name of an administrator, like [`Self::name`]. This does not wait for other lookups, since
    /// administrators need access while the name service hangs.
    pub(crate) async fn name_of_admin(&self, uid: u32) -> String {
        self.name_by(&self.admins, uid).await
    }

    async fn name_by(&self, lane: &LookupLimiter, uid: u32) -> String {
        let unnamed = format!("uid {uid}");
        if uid == 0 {
            return "root".to_owned();
        }
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, at)) = answers().get(&uid)
            && at.elapsed() < CACHE_TTL
        {
            return name.clone();
        }
        let Ok(found) = lane.ask(move || User::from_uid(Uid::from_raw(uid)).ok().flatten()).await else {
            tracing::warn!(uid, "the machine's name service does not answer");
            return unnamed;
        };
        let name = found.map_or(unnamed, |user| user.name);
        let mut answers = answers();
        if answers.len() >= MAX_CACHED_ANSWERS {
            answers.retain(|_, (_, at)| at.elapsed() < CACHE_TTL);
        }
        if answers.len() < MAX_CACHED_ANSWERS {
            answers.insert(uid, (name.clone(), Instant::now()));
        }
        name
    }

    /// Returns the user with this name; `None` if the system knows none.
    ///
    /// # Errors
    /// When the name service does not answer.
    pub(crate) async fn named(&self, name: &str) -> Result<Option<User>, NoAnswer> {
        let name = name.to_owned();
        self.everybody.ask(move || User::from_name(&name)).await?.map_err(|_| NoAnswer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_name_service_that_hangs_is_not_waited_for_and_holds_few_threads() {
        let users = Users {
            everybody: LookupLimiter::new(MAX_LOOKUPS, Duration::from_millis(10)),
            ..Users::default()
        };
        let (release, hangs) = mpsc::channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        for _ in 0..2 * MAX_LOOKUPS {
            let hangs = Arc::clone(&hangs);
            let question = move || drop(hangs.lock().map(|hangs| hangs.recv()));
            assert!(users.everybody.ask(question).await.is_err());
        }
        assert_eq!(users.everybody.places.available_permits(), 0, "the threads that hang are all there are");
        assert_eq!(users.name(4_294_967_000).await, "uid 4294967000");
        let daemon = User::from_name("daemon").unwrap().unwrap().uid.as_raw();
        assert_eq!(users.name_of_admin(daemon).await, "daemon", "administrators do not wait behind others");
        drop(release);
        let again = LookupLimiter { patience: LOOKUP_TIMEOUT, ..users.everybody };
        assert!(again.ask(|| ()).await.is_ok(), "it answers again");
    }

    #[tokio::test]
    async fn users_are_known_by_number_and_by_name() {
        let users = Users::default();
        let daemon = users.named("daemon").await.unwrap().unwrap();
        assert_eq!(users.name(daemon.uid.as_raw()).await, "daemon");
        assert!(users.named("no such user").await.unwrap().is_none());
    }
}
