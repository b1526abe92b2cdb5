//! The terms of a join token: which agents can join with it, and which of their proposals are accepted. Does
//! not depend on the secret or the store.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    name::{AgentName, Labels},
    network::{Hosts, Network},
    target::names::Names,
};

/// Maximum number of networks, of hosts and of labels in the terms of one token.
pub const MAX_TERMS: usize = 64;

/// The terms of a join token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Labels that each agent gets when it joins with the token.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Names that can join; `None` for any name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// Networks from which agents can join; empty for any network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Network>,
    /// Hosts that the agents can report for direct links, besides the host at which the master sees them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub direct: Vec<Hosts>,
}

/// The term that a joining agent does not meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The token is for other names.
    #[error("the join token is for other names than {name}: for {names}")]
    Name {
        /// The name of the agent.
        name: AgentName,
        /// The names that can join.
        names: Names,
    },
    /// The token is for machines of other networks.
    #[error("the join token is for machines of {}, and this one comes from {from}", joined(networks))]
    From {
        /// The address of the machine.
        from: String,
        /// The networks of the token.
        networks: Vec<Network>,
    },
}

/// Joins values with commas, for a sentence or a table.
fn joined<T: fmt::Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl Terms {
    /// Checks whether an agent with this name can join from an address; `None` is the master's own socket.
    ///
    /// # Errors
    /// The term that the agent does not meet.
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
    fn terms_keep_their_form_in_the_store() {
        let all = Terms { direct: vec!["gw".parse().unwrap()], ..terms("db-*", &["10.0.0.0/8"]) };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"names":"db-*","from":["10.0.0.0/8"],"direct":["gw"]}"#);
        assert_eq!(serde_json::from_str::<Terms>(&text).unwrap(), all);
        assert_eq!(serde_json::from_str::<Terms>("{}").unwrap(), Terms::default());
        assert_eq!(all.to_string(), "names db-*; from 10.0.0.0/8; direct addresses gw");
    }
}
