//! By which name and over what a request came: the host that it names, and the way to https.
//!
//! Must stay true: a header of a proxy counts from a trusted one only. Not here: addresses of clients
//! (`http::client_address`).

use super::App;
use crate::http::answer::{Answer, TEXT, bytes, with_header};
use crate::http::client_address::{Scheme, forwarded_scheme};
use crate::http::error::ApiError;
use hyper::header::{HOST, HeaderMap, HeaderValue, LOCATION};
use hyper::{StatusCode, Uri};
use std::net::IpAddr;

impl App {
    /// A name that was not allowed is a page elsewhere that points its own name here.
    pub(super) fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
        if self.allowed_hosts.is_empty() {
            return Ok(());
        }
        let host = named_host(headers, uri).unwrap_or("");
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let own = self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
        let local = name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if own || local {
            return Ok(());
        }
        let text = "This server does not answer to that name; see ALLOWED_HOSTS";
        Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", text))
    }

    /// 301 to https for what a trusted proxy received over http (`CONTRACT §1`).
    pub(super) fn redirect(&self, peer: IpAddr, headers: &HeaderMap, uri: &Uri) -> Option<Answer> {
        let proto = headers.get("x-forwarded-proto").map(HeaderValue::as_bytes);
        let scheme = forwarded_scheme(peer.to_canonical(), proto, &self.trusted_proxies);
        if !self.redirects_to_https || scheme != Some(Scheme::Http) {
            return None;
        }
        let host = named_host(headers, uri)?;
        let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(sane) {
            return None;
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let to = format!("https://{host}{path}");
        let text = format!("Moved Permanently. Redirecting to {to}");
        Some(with_header(bytes(StatusCode::MOVED_PERMANENTLY, TEXT, text), LOCATION, &to))
    }
}

/// The host that a request is for: a whole URL as its target says it, else the header (RFC 9112 §3.2.2).
fn named_host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST)?.to_str().ok(),
    }
}
