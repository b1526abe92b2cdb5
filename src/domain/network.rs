//! Hosts, ports and networks in tokens and addresses. Does not open sockets.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The maximum length of a host, in bytes: that of a DNS name.
const MAX_HOST: usize = 253;

/// A host and a port. The host is a name or an address, without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The error for text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: write HOST:PORT, 192.0.2.1:PORT or [2001:db8::1]:PORT")]
pub struct InvalidAddress(String);

impl HostPort {
    /// Creates an address from a host and a port.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Parses `host:port`, `[v6]:port`, or either of them without a port if there is a default.
    ///
    /// # Errors
    /// When the text is not an address.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
            (host, rest.strip_prefix(':'))
        } else if text.matches(':').count() > 1 {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| invalid())?,
            None => default_port.ok_or_else(invalid)?,
        };
        let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "-._:%".contains(sign);
        if host.is_empty() || port == 0 || !host.chars().all(is_plain) {
            return Err(invalid());
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Returns a host in the form in which hosts are compared: an IP address in canonical form, or a name in
/// lower case. `None` if the text is neither.
#[must_use]
pub fn canonical(host: &str) -> Option<String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "-._:%".contains(sign);
    let is_host = !host.is_empty() && host.len() <= MAX_HOST && host.chars().all(plain);
    is_host.then(|| host.to_ascii_lowercase())
}

/// Returns the address by which peers are counted: an IPv4 address itself, or the /64 network of an IPv6
/// address, since one machine can use a whole /64.
#[must_use]
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Returns the network whose addresses may share an owner: a /24 of IPv4, a /48 of IPv6.
#[must_use]
pub fn neighbourhood_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
    }
}

/// A network, as in `10.0.0.0/8`. A single address is a network without a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network(IpNet);

/// The error for text that is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid network {0:?}: write 10.0.0.0/8, 2001:db8::/32, or a single address")]
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
    /// Reports whether an address belongs to the network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
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

/// The error for text that is neither a network nor a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a host nor a network: write gateway.example.org, 192.0.2.1 or 10.0.0.0/8")]
pub struct InvalidHosts(String);

impl FromStr for Hosts {
    type Err = InvalidHosts;

    fn from_str(text: &str) -> Result<Self, InvalidHosts> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        // A malformed address, as in `10.0.0` or `[::1]`, is not a name.
        let is_name = text.contains(|sign: char| sign.is_ascii_alphabetic()) && !text.contains([':', '%']);
        let name = canonical(text).filter(|_| is_name);
        name.map(Self::Name).ok_or_else(|| InvalidHosts(text.to_owned()))
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
    /// Reports whether a host in canonical form is one of these hosts.
    #[must_use]
    pub fn mean(&self, host: &str) -> bool {
        match (self, host.parse::<IpAddr>()) {
            (Self::Network(network), Ok(address)) => network.contains(address),
            (Self::Name(name), Err(_)) => name == host,
            (Self::Network(_), Err(_)) | (Self::Name(_), Ok(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_every_usual_form() {
        let ok = |text, default| HostPort::parse(text, default).unwrap();
        assert_eq!(ok("master:50053", None), HostPort::new("master", 50053));
        assert_eq!(ok("192.0.2.1", Some(1)), HostPort::new("192.0.2.1", 1));
        assert_eq!(ok("[2001:db8::1]:5", None), HostPort::new("2001:db8::1", 5));
        assert_eq!(ok("2001:db8::1", Some(7)), HostPort::new("2001:db8::1", 7));
        assert_eq!(ok("[::1]", Some(7)), HostPort::new("::1", 7));
        for bad in ["", ":1", "a:", "a:0", "a:70000", "a b:1", "[::1:5", "host"] {
            assert!(HostPort::parse(bad, None).is_err(), "{bad}");
        }
        assert_eq!(HostPort::new("::1", 5).to_string(), "[::1]:5");
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
    fn hosts_mean_addresses_of_their_network_or_their_name() {
        let mean =
            |hosts: &str, host: &str| hosts.parse::<Hosts>().unwrap().mean(&canonical(host).expect("a host"));
        assert!(mean("192.168.1.0/24", "192.168.1.17") && mean("192.168.1.0/24", "::ffff:192.168.1.17"));
        assert!(mean("gw", "GW"));
        assert!(!mean("192.168.1.0/24", "192.168.2.17") && !mean("gw", "gw2") && !mean("gw", "127.0.0.1"));
        assert_eq!((canonical("a b"), canonical(""), canonical(&"a".repeat(254))), (None, None, None));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_source() {
        let of = |text: &str| source_of(text.parse().unwrap()).to_string();
        assert_eq!(of("10.0.0.1"), "10.0.0.1");
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
