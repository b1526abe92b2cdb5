//! The terms of a join token: who may join with it, and what counts of those who do. Knows no secret and no store.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    name::{AgentName, Labels},
    proposal::{DirectAddress, Proposal},
    target::names::Names,
};

/// Networks, hosts and labels that one token may name of each kind.
pub const MAX_TERMS: usize = 64;

/// The addresses of a network, as `10.0.0.0/8`; one without a length is an address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network(IpNet);

/// Text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: write 10.0.0.0/8, 2001:db8::/32, or one address")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net| Self(net.trunc())).map_err(|_| InvalidNetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// Hosts that agents may report for direct links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Hosts {
    /// The addresses of a network.
    Network(Network),
    /// One name, in lower case.
    Name(String),
}

/// Text that is neither a network nor a host's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a host nor a network: write gateway.example.org, 192.0.2.1 or 10.0.0.0/8")]
pub struct InvalidHosts(String);

impl FromStr for Hosts {
    type Err = InvalidHosts;

    fn from_str(text: &str) -> Result<Self, InvalidHosts> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        // An address that is wrong in part is no name.
        let is_name = text.contains(|sign: char| sign.is_ascii_alphabetic()) && !text.contains([':', '%']);
        let host = DirectAddress::new(text, 1, None).filter(|_| is_name);
        host.map(|host| Self::Name(host.host().to_owned())).ok_or_else(|| InvalidHosts(text.to_owned()))
    }
}

impl TryFrom<String> for Hosts {
    type Error = InvalidHosts;

    fn try_from(text: String) -> Result<Self, InvalidHosts> {
        text.parse()
    }
}

impl From<Hosts> for String {
    fn from(hosts: Hosts) -> Self {
        hosts.to_string()
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Hosts {
    fn mean(&self, direct: &DirectAddress) -> bool {
        match (self, direct.host().parse::<IpAddr>()) {
            (Self::Network(network), Ok(address)) => network.contains(address),
            (Self::Name(name), Err(_)) => name == direct.host(),
            (Self::Network(_), Err(_)) | (Self::Name(_), Ok(_)) => false,
        }
    }
}

/// On which terms a token lets agents in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Labels of whoever joins with it.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Names that may join with it; any where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// Where they may come from; from anywhere where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Network>,
    /// Hosts that they may report for direct links, besides the one that they are observed at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub direct: Vec<Hosts>,
}

/// What somebody who wants to join does not fulfil.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The name.
    #[error("the join token is for other names than {name}: for {names}")]
    Name {
        /// The name that was asked for.
        name: AgentName,
        /// Those that may join.
        names: Names,
    },
    /// The address.
    #[error("the join token is for machines of {}, and this one comes from {from}", joined(networks))]
    From {
        /// Where it comes from.
        from: String,
        /// Where it may come from.
        networks: Vec<Network>,
    },
}

/// Things in a row, for a sentence or a table.
fn joined<T: fmt::Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl Terms {
    /// Whether an agent of this name may join from an address; `None` is the master's own socket.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, name: &AgentName, from: Option<IpAddr>) -> Result<(), Unmet> {
        if let Some(names) = self.names.as_ref().filter(|names| !names.mean(name)) {
            return Err(Unmet::Name { name: name.clone(), names: names.clone() });
        }
        let is_there = |network: &Network| from.is_some_and(|from| network.contains(from));
        if !self.from.is_empty() && !self.from.iter().any(is_there) {
            let from = from.map_or_else(|| "the master's own socket".to_owned(), |from| from.to_string());
            return Err(Unmet::From { from, networks: self.from.clone() });
        }
        Ok(())
    }

    /// What they accept of a proposal. Labels are the token's own, whatever the agent says.
    #[must_use]
    pub fn accept(&self, proposal: &Proposal) -> Proposal {
        let is_meant = |direct: &DirectAddress| self.direct.iter().any(|hosts| hosts.mean(direct));
        Proposal { labels: Labels::new(), direct: proposal.direct.clone().filter(is_meant) }
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let parts = [
            self.names.as_ref().map(|names| format!("names {names}")),
            (!labels.is_empty()).then(|| format!("labels {}", joined(&labels))),
            (!self.from.is_empty()).then(|| format!("from {}", joined(&self.from))),
            (!self.direct.is_empty()).then(|| format!("direct addresses {}", joined(&self.direct))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(names: &str, from: &[&str]) -> Terms {
        Terms {
            names: (!names.is_empty()).then(|| names.parse().unwrap()),
            from: from.iter().map(|network| network.parse().unwrap()).collect(),
            ..Terms::default()
        }
    }

    fn may_join(terms: &Terms, name: &str, from: &str) -> bool {
        terms.check(&name.parse().unwrap(), from.parse().ok()).is_ok()
    }

    #[test]
    fn names_and_sources_are_checked() {
        assert!(may_join(&Terms::default(), "web-1", "203.0.113.9"));
        let databases = terms("db-*,spare-[1-2]", &["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]);
        for (name, from) in [
            ("db-1", "10.1.2.3"),
            ("spare-2", "::ffff:10.1.2.3"),
            ("db-x", "2001:db8:1::9"),
            ("db-1", "192.0.2.7"),
        ] {
            assert!(may_join(&databases, name, from), "{name} from {from}");
        }
        for (name, from) in [
            ("web-1", "10.1.2.3"),
            ("spare-3", "10.1.2.3"),
            ("db-1", "11.0.0.1"),
            ("db-1", "2001:db9::1"),
            ("db-1", "192.0.2.8"),
        ] {
            assert!(!may_join(&databases, name, from), "{name} from {from}");
        }
        let unmet = databases.check(&"web-1".parse().unwrap(), "10.0.0.1".parse().ok()).unwrap_err();
        assert_eq!(unmet.to_string(), "the join token is for other names than web-1: for db-*,spare-[1-2]");
        let unmet = databases.check(&"db-1".parse().unwrap(), "192.0.2.8".parse().ok()).unwrap_err();
        assert_eq!(
            unmet.to_string(),
            "the join token is for machines of 10.0.0.0/8, 2001:db8::/32, 192.0.2.7, and this one comes from 192.0.2.8"
        );
    }

    #[test]
    fn networks_and_hosts_are_read() {
        assert_eq!("10.1.2.3/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        for bad in ["", "10.0.0.0/33", "host", "10.0.0"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let read = |text: &str| text.parse::<Hosts>().map(|hosts| hosts.to_string());
        assert_eq!(read("Gateway.example.org"), Ok("gateway.example.org".to_owned()));
        assert_eq!(read("192.168.1.0/24"), Ok("192.168.1.0/24".to_owned()));
        for bad in ["", "10.0.0", "a b", "10.0.0.0/40", "host:1", "[::1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_accepts_the_addresses_that_it_names_and_no_labels() {
        let direct = |host: &str| DirectAddress::new(host, 1, None);
        let labels: Labels =
            [("role".to_owned().try_into().unwrap(), "db".to_owned().try_into().unwrap())].into();
        let terms = Terms {
            direct: vec!["192.168.1.0/24".parse().unwrap(), "gw".parse().unwrap()],
            ..Terms::default()
        };
        let accepts = |host: &str| {
            let accepted = terms.accept(&Proposal::new(labels.clone(), direct(host)));
            assert!(accepted.labels.is_empty());
            accepted.direct.is_some()
        };
        assert!(accepts("192.168.1.17") && accepts("GW"));
        assert!(!accepts("192.168.2.17") && !accepts("gw2") && !accepts("127.0.0.1"));
    }

    #[test]
    fn terms_keep_their_form_in_the_store() {
        let all = Terms { direct: vec!["gw".parse().unwrap()], ..terms("db-*", &["10.0.0.0/8"]) };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"names":"db-*","from":["10.0.0.0/8"],"direct":["gw"]}"#);
        assert_eq!(serde_json::from_str::<Terms>(&text).unwrap(), all);
        assert_eq!(serde_json::from_str::<Terms>("{}").unwrap(), Terms::default());
        assert_eq!(all.to_string(), "names db-*; from 10.0.0.0/8; direct addresses gw");
    }
}
