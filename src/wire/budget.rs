//! Budgets: limits on the simultaneous use and on the rate of use of a daemon by one principal, so that a
//! principal slows down only itself.
//!
//! A principal is an operator, an agent or the source of unauthenticated connections. The administrators of a
//! machine's own socket have no limits, so that root can always connect. Does not depend on individual calls.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{domain::name::AgentName, sys::rate::Rate};

/// A party with its own budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// An operator, by name, or a user of the machine's own socket.
    Operator(String),
    /// An agent.
    Agent(AgentName),
    /// An unauthenticated peer, by its address.
    Source(IpAddr),
    /// A user of this machine who is not an operator.
    User(u32),
    /// The master of an agent, which has no limits there.
    Master,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => f.write_str(name),
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::Source(address) => address.fmt(f),
            Self::Master => f.write_str("the master"),
            Self::User(uid) => write!(f, "the user with the id {uid}"),
        }
    }
}

/// The limits of one principal. An honest principal does not reach them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of simultaneous connections.
    pub connections: u32,
    /// Maximum number of simultaneous calls, over all connections.
    pub calls: u32,
    /// Maximum number of calls per second.
    pub calls_a_second: u32,
    /// Maximum number of simultaneous calls that change something and have no answer yet.
    pub writes: u32,
    /// Maximum share of one processor for evaluating selections, in per cent.
    pub selecting_percent: u32,
    /// Maximum number of bytes of output that wait for the principal.
    pub buffered_bytes: u32,
    /// Maximum number of HTTP/2 frames without data per second.
    pub frames_a_second: u32,
}

impl Limits {
    /// The limits of an operator.
    pub const OPERATOR: Self = Self {
        connections: 128,
        calls: 1_024,
        calls_a_second: 200,
        writes: 64,
        selecting_percent: 25,
        buffered_bytes: 64 * 1024 * 1024,
        frames_a_second: 10_000,
    };
    /// The limits of an agent. The master calls it; it makes no calls itself.
    pub const AGENT: Self = Self {
        connections: 4,
        calls: 4,
        calls_a_second: 10,
        writes: 1,
        selecting_percent: 1,
        buffered_bytes: 1024 * 1024,
        frames_a_second: 20_000,
    };
    /// The limits of an address of unauthenticated peers.
    pub const SOURCE: Self = Self {
        connections: 16,
        calls: 32,
        calls_a_second: 50,
        writes: 16,
        selecting_percent: 1,
        buffered_bytes: 1024 * 1024,
        frames_a_second: 500,
    };
    /// No limits, for the administrators of the machine's own socket and for an agent's master.
    const NONE: Self = Self {
        connections: u32::MAX,
        calls: u32::MAX,
        calls_a_second: u32::MAX,
        writes: u32::MAX,
        selecting_percent: u32::MAX,
        buffered_bytes: u32::MAX,
        frames_a_second: u32::MAX,
    };
}

/// The kind of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// The limit of connections: [`Limits::connections`].
    Connections,
    /// The limit of calls: [`Limits::calls`].
    Calls,
    /// The limit of calls per second: [`Limits::calls_a_second`].
    CallRate,
    /// The limit of changes that are not answered yet: [`Limits::writes`].
    Writes,
    /// The limit of processor time for evaluating selections: [`Limits::selecting_percent`].
    Selecting,
    /// The limit of frames without data per second: [`Limits::frames_a_second`].
    Frames,
}

impl Limit {
    const ALL: [Self; 6] =
        [Self::Connections, Self::Calls, Self::CallRate, Self::Writes, Self::Selecting, Self::Frames];

    /// Returns the limit's name, for metrics and the audit log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Calls => "calls",
            Self::CallRate => "calls a second",
            Self::Writes => "pending changes",
            Self::Selecting => "selections",
            Self::Frames => "frames a second",
        }
    }
}

/// The error for a limit that was exceeded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{who} has reached a limit of this master: {}", self.what())]
pub struct Exceeded {
    /// The caller, as the audit log names it.
    pub who: String,
    /// The limit that was exceeded.
    pub limit: Limit,
    /// The value of the limit, in the unit of its field in [`Limits`].
    pub most: u32,
}

impl Exceeded {
    fn what(&self) -> String {
        let most = self.most;
        match self.limit {
            Limit::Connections => format!("{most} connections at once; close some"),
            Limit::Calls => format!("{most} calls at once; end some"),
            Limit::CallRate => format!("{most} calls per second; go slower"),
            Limit::Writes => format!("{most} changes that are not recorded yet; wait for some"),
            Limit::Selecting => {
                format!("{most} % of a processor for evaluating targets; use labels, or go slower")
            }
            Limit::Frames => format!("{most} HTTP/2 frames without data per second"),
        }
    }
}

/// Maximum number of simultaneous operations that use a thread or much memory for a short time: reading the
/// store, evaluating a selection.
const TURNS: u32 = 4;
/// The maximum burst of a rate, in seconds: the use that the rate allows in this time is possible at once.
const BURST_SECONDS: u32 = 5;
/// Maximum rate of log lines that one principal can cause, per second.
const LOG_LINES_A_SECOND: u32 = 2;
/// Maximum burst of log lines that one principal can cause.
const LOG_LINES_AT_ONCE: u32 = 20;

/// The use of a daemon by one principal. All of its connections share it.
#[derive(Debug)]
pub struct Budget {
    who: Principal,
    limits: Limits,
    connections: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    buffered: Arc<Semaphore>,
    /// Permits for operations that use a thread or much memory for a short time.
    turns: Arc<Semaphore>,
    rates: Mutex<Rates>,
    exceeded: Arc<Counts>,
}

#[derive(Debug)]
struct Rates {
    calls: Rate,
    /// In milliseconds of evaluation time.
    selecting: Rate,
    log: Rate,
    frames: Rate,
}

/// A part of a budget. It is released when the permit is dropped. The default permit holds nothing.
#[derive(Debug, Default)]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Splits off a permit of the given size. Returns `None` if this permit is smaller.
    pub fn split(&mut self, size: usize) -> Option<Self> {
        let permit = self.permit.as_mut()?.split(size)?;
        Some(Self { permit: Some(permit) })
    }
}

/// The number of times that each limit was exceeded.
#[derive(Debug, Default)]
struct Counts([AtomicU64; Limit::ALL.len()]);

fn places(count: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((count as usize).min(Semaphore::MAX_PERMITS)))
}

impl Budget {
    fn new(who: Principal, limits: Limits, exceeded: Arc<Counts>) -> Self {
        let rate = |a_second: u32| Rate::new(a_second, a_second.saturating_mul(BURST_SECONDS));
        let rates = Rates {
            calls: rate(limits.calls_a_second),
            selecting: rate(limits.selecting_percent.saturating_mul(10)),
            log: Rate::new(LOG_LINES_A_SECOND, LOG_LINES_AT_ONCE),
            frames: rate(limits.frames_a_second),
        };
        Self {
            who,
            limits,
            connections: places(limits.connections),
            calls: places(limits.calls),
            writes: places(limits.writes),
            buffered: places(limits.buffered_bytes),
            turns: places(TURNS),
            rates: Mutex::new(rates),
            exceeded,
        }
    }

    /// Creates a budget without limits: for a machine's own administrators, and for an agent's master.
    #[must_use]
    pub fn unlimited(who: Principal) -> Arc<Self> {
        Arc::new(Self::new(who, Limits::NONE, Arc::default()))
    }

    fn is_unlimited(&self) -> bool {
        self.limits == Limits::NONE
    }

    /// Returns the principal.
    #[must_use]
    pub fn who(&self) -> &Principal {
        &self.who
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the exceeded limit, and returns the error for it.
    #[must_use]
    pub fn exceeded(&self, limit: Limit) -> Exceeded {
        self.exceeded.0[limit as usize].fetch_add(1, Ordering::Relaxed);
        let most = match limit {
            Limit::Connections => self.limits.connections,
            Limit::Calls => self.limits.calls,
            Limit::CallRate => self.limits.calls_a_second,
            Limit::Writes => self.limits.writes,
            Limit::Selecting => self.limits.selecting_percent,
            Limit::Frames => self.limits.frames_a_second,
        };
        Exceeded { who: self.who.to_string(), limit, most }
    }

    fn take(&self, places: &Arc<Semaphore>, limit: Limit) -> Result<Permit, Exceeded> {
        if self.is_unlimited() {
            return Ok(Permit { permit: None });
        }
        let permit = Arc::clone(places).try_acquire_owned().map_err(|_| self.exceeded(limit))?;
        Ok(Permit { permit: Some(permit) })
    }

    /// Takes a permit for a connection.
    ///
    /// # Errors
    /// When the limit is reached.
    pub fn connection(&self) -> Result<Permit, Exceeded> {
        self.take(&self.connections, Limit::Connections)
    }

    /// Takes a permit for a call, until the call ends.
    ///
    /// # Errors
    /// When the limit is reached, or the rate of calls is too high.
    pub fn call(&self) -> Result<Permit, Exceeded> {
        let place = self.take(&self.calls, Limit::Calls)?;
        if !self.is_unlimited() {
            let mut rates = self.rates();
            if !rates.calls.is_ready() {
                return Err(self.exceeded(Limit::CallRate));
            }
            rates.calls.take();
        }
        Ok(place)
    }

    /// Takes a permit for a change, until its call is answered.
    ///
    /// # Errors
    /// When the limit is reached.
    pub fn write(&self) -> Result<Permit, Exceeded> {
        self.take(&self.writes, Limit::Writes)
    }

    /// Checks whether a selection can be evaluated now. The caller then charges the time of the evaluation
    /// with [`Self::charge_selecting`].
    ///
    /// # Errors
    /// When earlier evaluations have used too much time.
    pub fn selecting(&self) -> Result<(), Exceeded> {
        if self.is_unlimited() || self.rates().selecting.is_ready() {
            return Ok(());
        }
        Err(self.exceeded(Limit::Selecting))
    }

    /// Charges the time that an evaluation took.
    pub fn charge_selecting(&self, took: Duration) {
        if !self.is_unlimited() {
            self.rates().selecting.take_of(took.as_secs_f64() * 1_000.0);
        }
    }

    /// Counts HTTP/2 frames without data, of all connections together.
    ///
    /// # Errors
    /// When their rate is too high.
    pub fn frames(&self, count: u32) -> Result<(), Exceeded> {
        if self.is_unlimited() {
            return Ok(());
        }
        let mut rates = self.rates();
        let is_in_time = rates.frames.is_ready();
        rates.frames.take_of(count.into());
        if is_in_time { Ok(()) } else { Err(self.exceeded(Limit::Frames)) }
    }

    /// Reserves room for bytes that wait for the principal. Waits until there is room, so that a client that
    /// does not read delays only itself.
    pub async fn buffer(&self, bytes: usize) -> Permit {
        if self.is_unlimited() {
            return Permit { permit: None };
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.limits.buffered_bytes);
        let permit = Arc::clone(&self.buffered).acquire_many_owned(bytes).await;
        Permit { permit: permit.ok() }
    }

    /// Takes a permit for an operation that uses a thread or much memory for a short time. Waits until a
    /// permit is free.
    pub async fn turn(&self) -> Permit {
        if self.is_unlimited() {
            return Permit { permit: None };
        }
        Permit { permit: Arc::clone(&self.turns).acquire_owned().await.ok() }
    }

    /// Charges the rate of calls with `count` more calls, for a call that does as much work as several.
    pub fn charge_calls(&self, count: usize) {
        if !self.is_unlimited() && count > 0 {
            self.rates().calls.take_of(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
    }

    /// Reports whether the principal can cause one more log line. If so, counts the line.
    pub fn may_log(&self) -> bool {
        let mut rates = self.rates();
        let may = self.is_unlimited() || rates.log.is_ready();
        if may && !self.is_unlimited() {
            rates.log.take();
        }
        may
    }
}

/// The budgets of all principals of a daemon.
#[derive(Clone, Debug)]
pub struct Budgets {
    operators: Limits,
    known: Arc<Mutex<HashMap<Principal, Arc<Budget>>>>,
    exceeded: Arc<Counts>,
}

/// The number of budgets from which unused budgets of principals without connections are removed.
const KNOWN: usize = 1_024;

impl Budgets {
    /// Creates budgets with these limits for operators.
    #[must_use]
    pub fn new(operators: Limits) -> Self {
        Self { operators, known: Arc::default(), exceeded: Arc::default() }
    }

    /// Returns a principal's budget, which all of its connections share.
    #[must_use]
    pub fn of(&self, who: Principal) -> Arc<Budget> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = known.get(&who) {
            return Arc::clone(budget);
        }
        if known.len() >= KNOWN && known.len() == known.capacity() {
            known.retain(|_, budget| Arc::strong_count(budget) > 1 || !budget.is_fresh());
        }
        let limits = match who {
            Principal::Operator(_) => self.operators,
            Principal::Agent(_) => Limits::AGENT,
            Principal::Source(_) | Principal::User(_) => Limits::SOURCE,
            Principal::Master => Limits::NONE,
        };
        let budget = Arc::new(Budget::new(who.clone(), limits, Arc::clone(&self.exceeded)));
        known.insert(who, Arc::clone(&budget));
        budget
    }

    /// Returns how often each limit was exceeded since the start.
    pub fn counts(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.exceeded.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl Budget {
    /// Reports whether all rates are unused. To replace such a budget with a new budget gives the principal
    /// no advantage.
    fn is_fresh(&self) -> bool {
        let rates = self.rates();
        rates.calls.is_full() && rates.selecting.is_full() && rates.log.is_full() && rates.frames.is_full()
    }
}

#[cfg(test)]
mod tests;
