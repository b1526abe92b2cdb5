//! Converts what agents propose, what operators were shown of it, and the terms of join tokens.

use std::net::IpAddr;

use super::{
    InvalidMessage,
    agent::{labels_in, labels_out},
    bounds::{list_of, short_text},
    proto,
};
use crate::{
    domain::{
        fingerprint::Fingerprint,
        name::{AgentName, MAX_LABELS},
        proposal::{DirectAddress, Proposal},
        terms::{MAX_TERMS, Terms},
    },
    sys::socket::parse_address,
};

/// Keys under one name that an operator is shown at most; what waits is bounded too.
const MAX_SHOWN: usize = 1_000;

/// Where an agent says that a direct link would go, seen from where it was observed. What is no address is none: it is not
/// dialled, and not shown either.
#[must_use]
pub fn direct_in(direct: Option<&proto::DirectAddress>, observed: Option<IpAddr>) -> Option<DirectAddress> {
    let direct = direct?;
    DirectAddress::new(&direct.host, u16::try_from(direct.port).ok()?, observed)
}

/// The text of an address; `None` for what is no address.
pub(super) fn address_in(address: &str) -> Option<DirectAddress> {
    let (host, port) = parse_address(address, None).ok()?;
    DirectAddress::new(&host, port, None)
}

/// Labels and the text of an address as a proposal; what makes no sense is left out.
pub(super) fn proposal_in(labels: impl IntoIterator<Item = (String, String)>, address: &str) -> Proposal {
    Proposal::new(labels_in(labels), address_in(address))
}

/// The text of an address that is proposed; empty for none.
#[must_use]
pub fn address_out(proposal: &Proposal) -> String {
    proposal.direct.as_ref().map_or_else(String::new, DirectAddress::to_string)
}

/// An agent's proposal.
#[must_use]
pub fn proposal_out(name: &AgentName, proposal: Proposal) -> proto::Proposal {
    proto::Proposal {
        name: name.to_string(),
        address: address_out(&proposal),
        labels: labels_out(proposal.labels),
    }
}

impl From<proto::Proposal> for Proposal {
    fn from(proposal: proto::Proposal) -> Self {
        proposal_in(proposal.labels, &proposal.address)
    }
}

impl From<&proto::Welcome> for Proposal {
    fn from(welcome: &proto::Welcome) -> Self {
        proposal_in(welcome.proposed_labels.clone(), &welcome.proposed_address)
    }
}

/// What an operator was shown of waiting keys.
///
/// # Errors
/// When it is too much, or a fingerprint is none.
pub fn shown_in(shown: Vec<proto::ShownKey>) -> Result<Vec<(Fingerprint, Proposal)>, InvalidMessage> {
    let key = |shown: proto::ShownKey| {
        let fingerprint = shown.fingerprint.parse().map_err(InvalidMessage::because)?;
        Ok((fingerprint, proposal_in(shown.labels, &shown.address)))
    };
    list_of(shown, MAX_SHOWN, "waiting keys")?.into_iter().map(key).collect()
}

/// A waiting key, as an operator was shown it.
#[must_use]
pub fn shown_out(fingerprint: String, proposal: Proposal) -> proto::ShownKey {
    proto::ShownKey { fingerprint, address: address_out(&proposal), labels: labels_out(proposal.labels) }
}

impl From<Terms> for proto::TokenTerms {
    fn from(terms: Terms) -> Self {
        Self {
            labels: labels_out(terms.labels),
            names: terms.names.map_or_else(String::new, |names| names.to_string()),
            from: terms.from.into_iter().map(String::from).collect(),
            direct: terms.direct.into_iter().map(String::from).collect(),
        }
    }
}

impl TryFrom<proto::TokenTerms> for Terms {
    type Error = InvalidMessage;

    fn try_from(terms: proto::TokenTerms) -> Result<Self, InvalidMessage> {
        let count = terms.labels.len();
        let labels = labels_in(terms.labels);
        // Those of an agent are dropped where they make no sense; an operator's are a mistake.
        if labels.len() < count {
            return Err(InvalidMessage(format!("labels that are none, or over {MAX_LABELS} of them")));
        }
        let names = short_text(terms.names, "names")?;
        let names =
            (!names.is_empty()).then(|| names.parse()).transpose().map_err(InvalidMessage::because)?;
        let from = list_of(terms.from, MAX_TERMS, "networks")?.into_iter();
        let direct = list_of(terms.direct, MAX_TERMS, "hosts")?.into_iter();
        Ok(Self {
            labels,
            names,
            from: from.map(TryFrom::try_from).collect::<Result<_, _>>().map_err(InvalidMessage::because)?,
            direct: direct
                .map(TryFrom::try_from)
                .collect::<Result<_, _>>()
                .map_err(InvalidMessage::because)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_come_back_as_they_went() {
        let terms = Terms {
            labels: labels_in([("role".to_owned(), "db".to_owned())]),
            names: Some("db-*".parse().unwrap()),
            from: vec!["10.0.0.0/8".parse().unwrap()],
            direct: vec!["gateway".parse().unwrap(), "192.0.2.0/24".parse().unwrap()],
        };
        assert_eq!(Terms::try_from(proto::TokenTerms::from(terms.clone())), Ok(terms));
        assert_eq!(Terms::try_from(proto::TokenTerms::default()), Ok(Terms::default()));
    }

    #[test]
    fn terms_that_make_no_sense_are_refused() {
        let label = |key: String| (key, "x".to_owned());
        for wrong in [
            proto::TokenTerms { labels: [label("a b".to_owned())].into(), ..Default::default() },
            proto::TokenTerms {
                labels: (0..65).map(|n| label(format!("k{n}"))).collect(),
                ..Default::default()
            },
            proto::TokenTerms { names: "@role:db".to_owned(), ..Default::default() },
            proto::TokenTerms { from: vec!["10.0.0.0/40".to_owned()], ..Default::default() },
            proto::TokenTerms { direct: vec!["a b".to_owned()], ..Default::default() },
            proto::TokenTerms { from: vec!["10.0.0.0/8".to_owned(); 65], ..Default::default() },
        ] {
            assert!(Terms::try_from(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_shown_is_what_the_key_proposed() {
        let observed = "10.0.0.1".parse().ok();
        let direct = proto::DirectAddress { host: "Gateway".to_owned(), port: 50051 };
        let proposal = Proposal::new(crate::domain::name::Labels::new(), direct_in(Some(&direct), observed));
        let key = Fingerprint::of(b"key");
        let shown = shown_out(key.to_string(), proposal.clone());
        assert_eq!(shown_in(vec![shown]), Ok(vec![(key, proposal)]));
        assert!(shown_in(vec![proto::ShownKey::default()]).is_err());
    }
}
