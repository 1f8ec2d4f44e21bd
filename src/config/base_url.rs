//! The address of another server: the one check for every URL that an operator can set.
//!
//! What must stay true: only http and https; no user information, query or fragment, since we put
//! paths behind it; only characters that can stand in a request as they are, because the HTTP client
//! does not encode a path. Deliberately not here: resolving names, following anything.

use std::fmt;
use std::net::Ipv6Addr;

/// Longest URL that is accepted, in bytes (P9).
const MAX_BYTES: usize = 2048;

/// A checked URL without a trailing slash, ready to have `/path` put behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// `host:port`, as a `Host` header has it, and the path behind it, which may be empty.
    pub fn authority_and_path(&self) -> (&str, &str) {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }

    /// The host without the brackets of an IPv6 address, and the port to call.
    pub fn host_and_port(&self) -> (&str, u16) {
        let (host, port) = split_host_and_port(self.authority_and_path().0);
        let usual = if self.is_https() { 443 } else { 80 };
        let port = port.and_then(|digits| digits.parse().ok()).unwrap_or(usual);
        (host.trim_matches(['[', ']']), port)
    }

    /// Scheme, host and port as one text: what a key belongs to.
    pub fn origin(&self) -> String {
        let scheme = if self.is_https() { "https" } else { "http" };
        let (host, port) = self.host_and_port();
        format!("{scheme}://{}:{port}", host.to_ascii_lowercase())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a base URL. Its words never repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlFault {
    TooLong,
    Character,
    Scheme,
    Userinfo,
    Query,
    Fragment,
    Host,
    Port,
}

impl fmt::Display for UrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlFault::TooLong => "is longer than 2048 bytes",
            UrlFault::Character => "has a character that cannot stand in a URL",
            UrlFault::Scheme => "does not begin with http:// or https://",
            UrlFault::Userinfo => "carries a user name or password before its host",
            UrlFault::Query => "has a query (?)",
            UrlFault::Fragment => "has a fragment (#)",
            UrlFault::Host => "has no valid host",
            UrlFault::Port => "has a port that is not a number from 1 to 65535",
        })
    }
}

/// Checks a URL under which requests will be made (CONTRACT: "http and https only, no userinfo, no
/// query"). The scheme comes back in small letters and trailing slashes are trimmed.
pub fn parse_base_url(text: &str) -> Result<BaseUrl, UrlFault> {
    if text.len() > MAX_BYTES {
        return Err(UrlFault::TooLong);
    }
    if text.bytes().any(|b| !b.is_ascii_graphic() || b"\\\"<>^`{|}".contains(&b)) {
        return Err(UrlFault::Character);
    }
    let (scheme, rest) = text.split_once("://").ok_or(UrlFault::Scheme)?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err(UrlFault::Scheme);
    }
    if rest.contains('#') {
        return Err(UrlFault::Fragment);
    }
    if rest.contains('?') {
        return Err(UrlFault::Query);
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(UrlFault::Userinfo);
    }
    check_authority(authority)?;
    Ok(BaseUrl(format!("{scheme}://{}", rest.trim_end_matches('/'))))
}

fn check_authority(authority: &str) -> Result<(), UrlFault> {
    let (host, port) = split_host_and_port(authority);
    let host_is_valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    if !host_is_valid {
        return Err(UrlFault::Host);
    }
    match port {
        Some(digits) if !is_port(digits) => Err(UrlFault::Port),
        _ => Ok(()),
    }
}

/// Splits `host:port`; the colons of a bracketed IPv6 address are not the one before a port.
fn split_host_and_port(authority: &str) -> (&str, Option<&str>) {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_bracket..].find(':') {
        Some(at) => (&authority[..after_bracket + at], Some(&authority[after_bracket + at + 1..])),
        None => (authority, None),
    }
}

fn is_port(digits: &str) -> bool {
    digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Whether `name` can be a host's name or IPv4 address: letters, digits, `.`, `-`, `_`, 1–253 bytes.
pub fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        && name.bytes().any(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_can_be_called_is_accepted_without_its_trailing_slash() {
        for (text, kept) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
            ("HTTPS://bridge.example/pre/fix//", "https://bridge.example/pre/fix"),
            ("http://[fd00::1]:8000/a", "http://[fd00::1]:8000/a"),
            ("http://[::1]", "http://[::1]"),
            ("http://my_container:80", "http://my_container:80"),
            ("http://h/a@b:c", "http://h/a@b:c"),
        ] {
            assert_eq!(parse_base_url(text).unwrap().as_str(), kept);
        }
        assert!(parse_base_url("HTTPS://h").unwrap().is_https());
        for (text, origin) in [
            ("http://Host/a:b@c", "http://host:80"),
            ("https://host:0443", "https://host:443"),
            ("http://[fd00::A]:8000/x", "http://fd00::a:8000"),
        ] {
            assert_eq!(parse_base_url(text).unwrap().origin(), origin);
        }
    }

    #[test]
    fn a_url_comes_apart_into_what_a_call_needs() {
        for (text, authority, path, place) in [
            ("http://pi:8001/pre/fix", "pi:8001", "/pre/fix", ("pi", 8001)),
            ("http://pi", "pi", "", ("pi", 80)),
            ("https://[fd00::1]/a", "[fd00::1]", "/a", ("fd00::1", 443)),
            ("http://[::1]:8001", "[::1]:8001", "", ("::1", 8001)),
        ] {
            let url = parse_base_url(text).unwrap();
            assert_eq!((url.authority_and_path(), url.host_and_port()), ((authority, path), place));
        }
    }

    #[test]
    fn a_url_that_could_be_misused_is_refused_with_its_reason() {
        let long = format!("http://h/{}", "a".repeat(2048));
        for (text, fault) in [
            ("", UrlFault::Scheme),
            ("host:8000", UrlFault::Scheme),
            ("javascript:alert(1)", UrlFault::Scheme),
            ("file:///etc/passwd", UrlFault::Scheme),
            ("ftp://h", UrlFault::Scheme),
            ("http:/h", UrlFault::Scheme),
            ("http://", UrlFault::Host),
            ("http:///path", UrlFault::Host),
            ("http://:80", UrlFault::Host),
            ("http://.", UrlFault::Host),
            ("http://a%2fb", UrlFault::Host),
            ("http://[::1", UrlFault::Host),
            ("http://[nope]", UrlFault::Host),
            ("http://[::1]x", UrlFault::Host),
            ("http://user:pw@h", UrlFault::Userinfo),
            ("http://user@h/", UrlFault::Userinfo),
            ("http://h?x=1", UrlFault::Query),
            ("http://h/#x", UrlFault::Fragment),
            ("http://h:0", UrlFault::Port),
            ("http://h:", UrlFault::Port),
            ("http://h:65536", UrlFault::Port),
            ("http://h:+80", UrlFault::Port),
            ("http://h:80:90", UrlFault::Port),
            ("http://h/a b", UrlFault::Character),
            ("http://h/\r\nX: y", UrlFault::Character),
            ("http://h\\@evil", UrlFault::Character),
            ("http://хост", UrlFault::Character),
            (&long, UrlFault::TooLong),
        ] {
            assert_eq!(parse_base_url(text), Err(fault), "{text}");
        }
    }
}
