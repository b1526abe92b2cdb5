//! Limits the number of unauthenticated peers, in total and for each source. When a limit is reached, the
//! oldest peer is disconnected: an honest peer finishes quickly, and the newest peer can be honest.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::domain::network::{neighbourhood_of, source_of};

/// The origin of a peer: its source, and the neighbourhood of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin<K> {
    /// The source, which is probably one machine.
    pub source: K,
    /// The neighbourhood: sources that can all belong to one owner.
    pub neighbourhood: K,
}

impl From<IpAddr> for Origin<IpAddr> {
    fn from(address: IpAddr) -> Self {
        Self { source: source_of(address), neighbourhood: neighbourhood_of(address) }
    }
}

/// A user of this machine.
impl From<u32> for Origin<u32> {
    fn from(uid: u32) -> Self {
        Self { source: uid, neighbourhood: uid }
    }
}

/// A set of connections, with their number for each source and for each neighbourhood.
#[derive(Debug)]
pub(crate) struct Crowd<K> {
    most: usize,
    most_of_one: usize,
    members: Arc<Mutex<Members<K>>>,
}

#[derive(Debug)]
struct Members<K> {
    /// The connections by number. The oldest connection has the lowest number.
    all: BTreeMap<u64, (Origin<K>, CancellationToken)>,
    of_source: HashMap<K, usize>,
    of_neighbourhood: HashMap<K, usize>,
    next: u64,
}

/// A connection in the set. Dropping this value removes the connection from the set.
#[derive(Debug)]
pub(crate) struct Member<K: Eq + Hash + Copy> {
    members: Arc<Mutex<Members<K>>>,
    number: u64,
    away: CancellationToken,
}

fn locked<K>(members: &Mutex<Members<K>>) -> MutexGuard<'_, Members<K>> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

impl<K: Eq + Hash + Copy> Members<K> {
    fn send_away(&mut self, is_one: impl Fn(&Origin<K>) -> bool) {
        let oldest = self.all.iter().find(|(_, (origin, _))| is_one(origin)).map(|(number, _)| *number);
        if let Some(away) = oldest.and_then(|number| self.leave(number)) {
            away.cancel();
        }
    }

    fn leave(&mut self, number: u64) -> Option<CancellationToken> {
        let (origin, away) = self.all.remove(&number)?;
        count_down(&mut self.of_source, origin.source);
        count_down(&mut self.of_neighbourhood, origin.neighbourhood);
        Some(away)
    }
}

impl<K: Eq + Hash + Copy> Crowd<K> {
    /// Creates an empty set with a maximum size, and a maximum for each source.
    #[must_use]
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        let members = Members {
            all: BTreeMap::new(),
            of_source: HashMap::new(),
            of_neighbourhood: HashMap::new(),
            next: 0,
        };
        Self { most, most_of_one, members: Arc::new(Mutex::new(members)) }
    }

    /// Adds a connection. If its source has the maximum number of connections, the oldest connection of the
    /// source is disconnected; if the set is full, the oldest connection of the largest neighbourhood.
    #[must_use]
    pub(crate) fn join(&self, origin: impl Into<Origin<K>>) -> Member<K> {
        let origin = origin.into();
        let away = CancellationToken::new();
        let mut members = locked(&self.members);
        if members.of_source.get(&origin.source).is_some_and(|count| *count >= self.most_of_one) {
            members.send_away(|other| other.source == origin.source);
        }
        if members.all.len() >= self.most {
            let busiest = members.of_neighbourhood.iter().max_by_key(|(_, count)| **count);
            let busiest = busiest.map(|(neighbourhood, _)| *neighbourhood);
            members.send_away(|other| Some(other.neighbourhood) == busiest);
        }
        *members.of_source.entry(origin.source).or_default() += 1;
        *members.of_neighbourhood.entry(origin.neighbourhood).or_default() += 1;
        members.next += 1;
        let number = members.next;
        members.all.insert(number, (origin, away.clone()));
        drop(members);
        Member { members: Arc::clone(&self.members), number, away }
    }
}

impl<K: Eq + Hash + Copy> Member<K> {
    /// Waits until the connection has to be closed.
    pub(crate) async fn sent_away(&self) {
        self.away.cancelled().await;
    }

    /// Reports whether the connection has to be closed.
    #[cfg(test)]
    fn has_to_go(&self) -> bool {
        self.away.is_cancelled()
    }
}

impl<K: Eq + Hash + Copy> Drop for Member<K> {
    fn drop(&mut self) {
        // A connection that was evicted is no longer in the set.
        let _ = locked(&self.members).leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn of_one_source_the_oldest_goes() {
        let crowd = Crowd::new(100, 3);
        let of_one: Vec<_> = (0..3).map(|_| crowd.join(address(1))).collect();
        let other = crowd.join(address(2));
        let newest = crowd.join(address(1));
        let go: Vec<bool> = of_one.iter().map(Member::has_to_go).collect();
        assert_eq!(go, [true, false, false]);
        assert!(!other.has_to_go() && !newest.has_to_go());
    }

    #[test]
    fn when_it_is_full_the_oldest_of_the_busiest_neighbourhood_goes() {
        let crowd = Crowd::new(64, 8);
        let honest = crowd.join(IpAddr::from([192, 0, 2, 7]));
        let flood: Vec<_> = (0..63u8).map(|n| crowd.join(address(n % 32))).collect();
        assert!(!flood.iter().any(Member::has_to_go));
        let late = crowd.join(IpAddr::from([198, 51, 100, 9]));
        assert!(!honest.has_to_go() && !late.has_to_go() && flood[0].has_to_go());
        drop((honest, flood, late));
        let members = locked(&crowd.members);
        assert!(
            members.all.is_empty() && members.of_source.is_empty() && members.of_neighbourhood.is_empty()
        );
    }

    #[test]
    fn networks_of_ipv6_are_told_apart_like_machines_and_companies() {
        let crowd = Crowd::new(4, 4);
        let of = |text: &str| crowd.join(text.parse::<IpAddr>().unwrap());
        let one_network = ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1"].map(of);
        let other = of("2001:db8:2::1");
        let late = of("2001:db8:3::1");
        assert!(one_network[0].has_to_go() && !other.has_to_go() && !late.has_to_go());
    }

    #[test]
    fn users_of_the_machine_are_sources_too() {
        let crowd = Crowd::<u32>::new(3, 2);
        let (first, second, root) = (crowd.join(1000), crowd.join(1000), crowd.join(0));
        let third = crowd.join(1000);
        assert!(first.has_to_go() && !second.has_to_go() && !root.has_to_go() && !third.has_to_go());
    }
}
