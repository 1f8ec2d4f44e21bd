//! An IP address or a range of them, as `TRUSTED_PROXIES` lists them.
//!
//! An IPv4 address that arrives in IPv6 clothes (`::ffff:10.0.0.1`) is the IPv4 address.

use std::net::IpAddr;

/// Addresses that share their first `prefix` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or a lone address. `None` when it is neither.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().ok()?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        (prefix <= width).then_some(Network { base, prefix })
    }

    /// Every loopback address, of both families: the default of `TRUSTED_PROXIES`.
    pub fn loopback() -> Vec<Network> {
        ["127.0.0.0/8", "::1"]
            .map(|text| Network::parse(text).expect("a constant that parses"))
            .to_vec()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Whether this is every address of its family.
    pub fn is_everyone(&self) -> bool {
        self.prefix == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_the_networks_that_share_its_first_bits() {
        let table = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.9.9.9/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("::/0", "fe80::1", true),
            ("::/0", "10.0.0.1", false),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "::ffff:192.168.1.7", true),
            ("192.168.1.7", "192.168.1.6", false),
            ("fd00::/8", "fdff::9", true),
            ("fd00::/8", "fe00::9", false),
            ("::1", "::1", true),
        ];
        for (network, address, inside) in table {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "proxy"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
