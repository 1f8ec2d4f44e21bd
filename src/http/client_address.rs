//! Who is calling, and over http or https, when proxies stand in between (CONTRACT "Where we are
//! better": the rightmost untrusted address, believed from `TRUSTED_PROXIES` only).
//!
//! What must stay true: a header is read only when the connection itself comes from a trusted proxy,
//! and an address in it only when the one to its right is trusted; what a caller invents stands to the
//! left of what the proxies wrote. Deliberately not here: `Forwarded` (RFC 7239) and vendors' headers.

use std::net::{IpAddr, SocketAddr};

use crate::config::Network;

/// What the caller spoke to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// The client's address: `peer` unless it is a trusted proxy, else the rightmost address of
/// `forwarded_for` (the values of all `X-Forwarded-For` headers in their order) that is not one. An
/// entry that is no address ends the search at the last proxy before it.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[Network],
) -> IpAddr {
    let mut client = peer.to_canonical();
    let mut entries = forwarded_for.rev().flat_map(|value| value.rsplit(|b| *b == b','));
    while is_trusted(client, trusted) {
        match entries.next().and_then(parse_entry) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// What `X-Forwarded-Proto` says, if `peer` may say it; `None` for anything but exactly `http` or
/// `https`.
pub fn forwarded_scheme(
    peer: IpAddr,
    forwarded_proto: Option<&[u8]>,
    trusted: &[Network],
) -> Option<Scheme> {
    match forwarded_proto? {
        b"http" if is_trusted(peer, trusted) => Some(Scheme::Http),
        b"https" if is_trusted(peer, trusted) => Some(Scheme::Https),
        _ => None,
    }
}

fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// `10.0.0.1`, `10.0.0.1:4711`, `fd00::1`, `[fd00::1]` or `[fd00::1]:4711`: proxies write all of them.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    Some(address.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[&str]) -> String {
        let trusted =
            ["127.0.0.0/8", "::1", "10.0.0.0/8"].map(|text| Network::parse(text).unwrap());
        let headers = headers.iter().map(|value| value.as_bytes());
        client_address(peer.parse().unwrap(), headers, &trusted).to_string()
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        for (peer, headers, expected) in [
            ("203.0.113.9", &[][..], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.7"], "198.51.100.1"),
            ("127.0.0.1", &["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
            ("::1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("::1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(client(peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn garbage_ends_the_search_at_the_last_proxy() {
        for garbage in ["unknown", "", "1.1.1.1, ,", "1.1.1.1, x", "1.1.1.1, 10.0.0.256"] {
            assert_eq!(client("127.0.0.1", &[garbage]), "127.0.0.1", "{garbage}");
        }
        assert_eq!(client("127.0.0.1", &["1.1.1.1, x, 10.0.0.7"]), "10.0.0.7");
        let bytes = [&b"\xff\xfe"[..]].into_iter();
        assert_eq!(
            client_address([127, 0, 0, 1].into(), bytes, &Network::loopback()),
            ip_loopback()
        );
    }

    fn ip_loopback() -> IpAddr {
        [127, 0, 0, 1].into()
    }

    #[test]
    fn the_scheme_is_believed_from_a_trusted_proxy_alone() {
        let trusted = Network::loopback();
        let says = |peer: &str, proto: Option<&str>| {
            forwarded_scheme(peer.parse().unwrap(), proto.map(str::as_bytes), &trusted)
        };
        assert_eq!(says("127.0.0.1", Some("http")), Some(Scheme::Http));
        assert_eq!(says("::1", Some("https")), Some(Scheme::Https));
        assert_eq!(says("203.0.113.9", Some("http")), None);
        assert_eq!(says("127.0.0.1", None), None);
        for proto in ["HTTP", "http,https", " http", "ws", ""] {
            assert_eq!(says("127.0.0.1", Some(proto)), None, "{proto}");
        }
    }
}
