//! Proposals and addresses that agents report, and the terms of join tokens.

use super::label::{labels_in, labels_out};
use crate::{
    domain::{
        control::{NamedProposal, ShownKey},
        fingerprint::Fingerprint,
        name::{AgentName, InvalidName, MAX_LABELS},
        network::{InvalidHosts, InvalidNetwork},
        proposal::{DirectAddress, Proposal, ReportedAddress},
        target::InvalidTarget,
        terms::{MAX_TERMS, Terms},
    },
    wire::{
        bounds::{OutOfBounds, list_of, short_text},
        proto,
    },
};

/// The error for a proposal, or the terms of a token, that are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProposal {
    /// The agent's name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The fingerprint of a key does not have 32 bytes.
    #[error("a fingerprint of {0} bytes; it must have 32")]
    Fingerprint(usize),
    /// The terms have invalid or too many labels. Invalid labels of an agent are dropped instead; in terms,
    /// which an operator has written, they are a mistake.
    #[error("labels that are not valid, or over {MAX_LABELS} of them")]
    Labels,
    /// The expression of allowed names in the terms is not valid.
    #[error(transparent)]
    Names(#[from] InvalidTarget),
    /// An allowed network in the terms is not valid.
    #[error(transparent)]
    Network(#[from] InvalidNetwork),
    /// The hosts in the terms are not valid.
    #[error(transparent)]
    Hosts(#[from] InvalidHosts),
    /// The terms have too many hosts, or the expression of allowed names is too long.
    #[error(transparent)]
    TooMany(#[from] OutOfBounds),
}

pub(super) fn fingerprint_out(fingerprint: Fingerprint) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(fingerprint.as_bytes())
}

pub(super) fn fingerprint_in(bytes: &[u8]) -> Result<Fingerprint, InvalidProposal> {
    let array: Result<[u8; 32], _> = bytes.try_into();
    array.map(Into::into).map_err(|_| InvalidProposal::Fingerprint(bytes.len()))
}

impl From<ReportedAddress> for proto::ReportedAddress {
    fn from(address: ReportedAddress) -> Self {
        Self { host: address.host, port: address.port.into() }
    }
}

/// Converts the address that an agent reports for direct links. Returns `None` if its port is not valid.
pub(super) fn reported_in(address: Option<proto::ReportedAddress>) -> Option<ReportedAddress> {
    let address = address?;
    let host = address.host.filter(|host| !host.is_empty());
    Some(ReportedAddress { host, port: u16::try_from(address.port).ok()? })
}

impl From<DirectAddress> for proto::HostPort {
    fn from(address: DirectAddress) -> Self {
        Self { host: address.host().to_owned(), port: address.port().into() }
    }
}

/// Converts an address. Returns `None` if it is not valid, so that it is neither used nor shown.
pub(super) fn address_in(address: Option<proto::HostPort>) -> Option<DirectAddress> {
    let address = address?;
    DirectAddress::new(&address.host, u16::try_from(address.port).ok()?, None)
        .filter(|_| !address.host.is_empty())
}

impl From<Proposal> for proto::Proposal {
    fn from(proposal: Proposal) -> Self {
        Self { labels: labels_out(proposal.labels), direct: proposal.direct.map(Into::into) }
    }
}

/// Converts a proposal. Invalid parts are left out.
impl From<proto::Proposal> for Proposal {
    fn from(proposal: proto::Proposal) -> Self {
        Self::new(labels_in(proposal.labels), address_in(proposal.direct))
    }
}

pub(super) fn proposal_in(proposal: Option<proto::Proposal>) -> Proposal {
    proposal.unwrap_or_default().into()
}

impl From<NamedProposal> for proto::NamedProposal {
    fn from(named: NamedProposal) -> Self {
        Self { name: named.name.into(), proposal: Some(named.proposal.into()) }
    }
}

impl TryFrom<proto::NamedProposal> for NamedProposal {
    type Error = InvalidProposal;

    fn try_from(named: proto::NamedProposal) -> Result<Self, InvalidProposal> {
        Ok(Self { name: AgentName::try_from(named.name)?, proposal: proposal_in(named.proposal) })
    }
}

impl From<ShownKey> for proto::ShownKey {
    fn from(shown: ShownKey) -> Self {
        Self { fingerprint: fingerprint_out(shown.fingerprint), proposal: Some(shown.proposal.into()) }
    }
}

impl TryFrom<proto::ShownKey> for ShownKey {
    type Error = InvalidProposal;

    fn try_from(shown: proto::ShownKey) -> Result<Self, InvalidProposal> {
        Ok(Self { fingerprint: fingerprint_in(&shown.fingerprint)?, proposal: proposal_in(shown.proposal) })
    }
}

impl From<Terms> for proto::TokenTerms {
    fn from(terms: Terms) -> Self {
        Self {
            labels: labels_out(terms.labels),
            names: terms.names.map(|names| names.to_string()),
            from: terms.from.into_iter().map(String::from).collect(),
            direct: terms.direct.into_iter().map(String::from).collect(),
        }
    }
}

impl TryFrom<proto::TokenTerms> for Terms {
    type Error = InvalidProposal;

    fn try_from(terms: proto::TokenTerms) -> Result<Self, InvalidProposal> {
        let count = terms.labels.len();
        let labels = labels_in(terms.labels);
        if labels.len() < count {
            return Err(InvalidProposal::Labels);
        }
        let names = terms.names.map(|names| short_text(names, "names")).transpose()?;
        let from = list_of(terms.from, MAX_TERMS, "networks")?.into_iter();
        let direct = list_of(terms.direct, MAX_TERMS, "hosts")?.into_iter();
        Ok(Self {
            labels,
            names: names.map(|names| names.parse()).transpose()?,
            from: from.map(TryFrom::try_from).collect::<Result<_, _>>()?,
            direct: direct.map(TryFrom::try_from).collect::<Result<_, _>>()?,
        })
    }
}
