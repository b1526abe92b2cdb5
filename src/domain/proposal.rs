//! What an agent proposes: its labels, and the address for a direct link. A proposal has no effect until an
//! operator accepts it. Does not depend on agents or the store.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    name::Labels,
    network::{Hosts, canonical},
};

/// The address for a direct link, as an agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedAddress {
    /// The host; `None` for the address at which the master sees the agent.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

impl ReportedAddress {
    /// Returns the address to dial. `observed` is the host if the agent reports none. `None` if the result is
    /// not a valid address.
    #[must_use]
    pub fn seen_at(&self, observed: Option<IpAddr>) -> Option<DirectAddress> {
        DirectAddress::new(self.host.as_deref().unwrap_or_default(), self.port, observed)
    }
}

/// The address to which a direct link would be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectAddress {
    host: String,
    port: u16,
    is_observed: bool,
}

impl DirectAddress {
    /// Creates an address from the host that the agent reports, or from the `observed` one if `reported` is
    /// empty. `None` if the result is not a valid address.
    #[must_use]
    pub fn new(reported: &str, port: u16, observed: Option<IpAddr>) -> Option<Self> {
        let observed = observed.map(|address| address.to_canonical().to_string());
        let host = if reported.is_empty() { observed.clone()? } else { canonical(reported)? };
        let is_observed = observed.is_some_and(|observed| observed == host);
        (port > 0).then_some(Self { host, port, is_observed })
    }

    /// Returns the host: an IP address, or a name in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for DirectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Maximum number of bytes of labels that are kept for an unauthenticated peer.
const BRIEF: usize = 1024;

/// What an agent reports and what is not in effect yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The labels that the agent proposes.
    pub labels: Labels,
    /// The address for a direct link; `None` if it is the address at which the machine was observed.
    pub direct: Option<DirectAddress>,
}

impl Proposal {
    /// Creates the proposal of a machine of which nothing was accepted yet. An observed address needs no
    /// acceptance, so it is not part of the proposal.
    #[must_use]
    pub fn new(labels: Labels, direct: Option<DirectAddress>) -> Self {
        Self { labels, direct: direct.filter(|direct| !direct.is_observed) }
    }

    /// Returns the part that is kept for an unauthenticated peer: at most 1 KiB of labels. A thousand pending
    /// keys can be in memory at once.
    #[must_use]
    pub fn brief(mut self) -> Self {
        let mut left = BRIEF;
        self.labels.retain(|key, value| {
            let size = key.as_str().len() + value.as_str().len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        });
        self
    }

    /// Reports whether the proposal is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.direct.is_none()
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (key, value) in &self.labels {
            write!(f, "{between}{key}={value}")?;
            between = " ";
        }
        if let Some(direct) = &self.direct {
            let between = if between.is_empty() { "" } else { ", " };
            write!(f, "{between}direct address {direct}")?;
        }
        Ok(())
    }
}

/// Returns the command with which an operator accepts what agents propose.
#[must_use]
pub fn acceptance(target: impl fmt::Display) -> String {
    format!("sloth-runner agent label --accept {target}")
}

/// The labels and addresses of an agent that were accepted. Each is in effect while the agent reports it, and
/// is dropped when the agent stops reporting it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accepted {
    /// Whether everything that the agent reports is in effect.
    all: bool,
    labels: Labels,
    /// The accepted address for a direct link, as `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    direct: Option<String>,
    /// Further hosts to which a direct link can be opened, by the terms of the agent's token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<Hosts>,
}

impl Accepted {
    /// Accepts everything that the agent reports, now and later.
    #[must_use]
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Accepts direct links to these hosts.
    #[must_use]
    pub fn hosts(hosts: Vec<Hosts>) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// Accepts what is proposed.
    pub fn accept(&mut self, proposal: Proposal) {
        self.labels.extend(proposal.labels);
        self.direct = proposal.direct.map(|direct| direct.to_string()).or(self.direct.take());
    }

    /// Drops what the agent no longer reports. If the agent reports it again, it has to be accepted again.
    pub fn heard(&mut self, brought: &Labels, direct: Option<&DirectAddress>) {
        self.labels.retain(|key, value| brought.get(key) == Some(value));
        let said = direct.map(DirectAddress::to_string);
        self.direct = self.direct.take().filter(|accepted| said.as_ref() == Some(accepted));
    }

    /// Withdraws the acceptance of a label. Has no effect if everything is accepted.
    pub fn forget_label(&mut self, key: &str) {
        self.labels.remove(key);
    }

    /// Returns the reported labels that are in effect.
    #[must_use]
    pub fn counting(&self, brought: &Labels) -> Labels {
        let counts = |(key, value): &(&_, &_)| self.all || self.labels.get(*key) == Some(*value);
        brought.iter().filter(counts).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Returns the reported labels that are not in effect. Keys that operators `set` are left out, because an
    /// operator's value overrides the agent's.
    #[must_use]
    pub fn proposed(&self, brought: &Labels, set: &Labels) -> Labels {
        let counts = |key: &_, value: &_| self.all || self.labels.get(key) == Some(value);
        let is_proposed = |(key, value): &(&_, &_)| !counts(*key, *value) && !set.contains_key(*key);
        brought.iter().filter(is_proposed).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Reports whether a direct link can be opened to this address.
    #[must_use]
    pub fn may_dial(&self, direct: &DirectAddress) -> bool {
        self.all
            || direct.is_observed
            || self.hosts.iter().any(|hosts| hosts.mean(&direct.host))
            || self.direct.as_ref().is_some_and(|accepted| *accepted == direct.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(words: &[&str]) -> Labels {
        let label = |word: &&str| {
            let (key, value) = word.split_once('=').unwrap();
            (key.to_owned().try_into().unwrap(), value.to_owned().try_into().unwrap())
        };
        words.iter().map(label).collect()
    }

    fn at(host: &str) -> DirectAddress {
        DirectAddress::new(host, 50051, "10.0.0.1".parse().ok()).unwrap()
    }

    #[test]
    fn only_accepted_labels_count_and_only_while_they_are_brought() {
        let mut accepted = Accepted::default();
        let brought = labels(&["role=web", "rack=3"]);
        assert_eq!(accepted.counting(&brought), Labels::new());
        accepted.accept(Proposal::new(labels(&["role=web"]), None));
        assert_eq!(accepted.counting(&brought), labels(&["role=web"]));
        assert_eq!(accepted.proposed(&brought, &Labels::new()), labels(&["rack=3"]));
        assert_eq!(accepted.proposed(&brought, &labels(&["rack=4"])), Labels::new(), "what is set counts");
        let other = labels(&["role=db"]);
        assert_eq!(accepted.counting(&other), Labels::new(), "another value was not accepted");
        assert_eq!(accepted.proposed(&other, &Labels::new()), other);
        accepted.forget_label("role");
        assert_eq!(accepted.counting(&brought), Labels::new());
        accepted.accept(Proposal::new(labels(&["role=web"]), None));
        accepted.heard(&other, None);
        assert_eq!(accepted.counting(&brought), Labels::new(), "it had said something else meanwhile");
    }

    #[test]
    fn everything_counts_of_an_agent_of_the_masters_own_socket() {
        let mut accepted = Accepted::all();
        let brought = labels(&["role=web"]);
        assert_eq!(accepted.counting(&brought), brought);
        assert_eq!(accepted.proposed(&brought, &Labels::new()), Labels::new());
        assert!(accepted.may_dial(&at("192.168.1.1")));
        accepted.forget_label("role");
        assert_eq!(accepted.counting(&brought), brought);
    }

    #[test]
    fn a_direct_link_goes_to_the_observed_or_an_accepted_host() {
        let mut accepted = Accepted::default();
        assert!(accepted.may_dial(&at("")));
        assert!(accepted.may_dial(&at("10.0.0.1")));
        assert!(accepted.may_dial(&at("::ffff:10.0.0.1")), "the same in another form");
        assert!(!accepted.may_dial(&at("127.0.0.1")));
        accepted.accept(Proposal::new(Labels::new(), Some(at("GATEWAY.example.org"))));
        assert!(accepted.may_dial(&at("gateway.EXAMPLE.org")));
        assert!(!accepted.may_dial(&at("127.0.0.1")));
        let ssh = DirectAddress::new("gateway.example.org", 22, None).unwrap();
        assert!(!accepted.may_dial(&ssh), "another port was not accepted");
        accepted.heard(&Labels::new(), Some(&at("")));
        assert!(!accepted.may_dial(&at("gateway.example.org")), "it had said something else meanwhile");
        let of_token = Accepted::hosts(vec!["192.168.1.0/24".parse().unwrap()]);
        assert!(of_token.may_dial(&at("192.168.1.17")) && !of_token.may_dial(&at("192.168.2.17")));
        assert_eq!(Proposal::new(Labels::new(), Some(at(""))), Proposal::default(), "nothing to accept");
    }

    #[test]
    fn what_is_no_address_is_none() {
        let address = |host: &str, port| DirectAddress::new(host, port, "::1".parse().ok());
        for (host, port) in [("a b", 1), ("host\n", 1), ("host", 0), (&"a".repeat(254), 1), ("h#", 1)] {
            assert_eq!(address(host, port), None, "{host:?} {port}");
        }
        assert_eq!(DirectAddress::new("", 1, None), None);
        assert_eq!(address("", 7).unwrap().to_string(), "[::1]:7");
        assert_eq!(address("Host", 7).unwrap().to_string(), "host:7");
    }

    #[test]
    fn the_labels_of_an_unauthenticated_peer_have_a_kilobyte() {
        let long = "v".repeat(60);
        let many: Vec<String> = (10..60).map(|n| format!("key{n}={long}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let brief = Proposal::new(labels(&many), None).brief();
        assert_eq!(brief.labels.len(), BRIEF / 65);
        assert_eq!(brief.clone().brief(), brief);
    }

    #[test]
    fn a_proposal_is_shown_in_words() {
        let proposal = Proposal::new(labels(&["role=web", "rack=3"]), Some(at("192.0.2.1")));
        assert_eq!(proposal.to_string(), "rack=3 role=web, direct address 192.0.2.1:50051");
        assert_eq!(Proposal::new(Labels::new(), Some(at("gw"))).to_string(), "direct address gw:50051");
    }
}
