//! By which name, from where and over what a request came, and the way to https.
//!
//! Must stay true: a header of a proxy counts from a trusted one only; a browser that was led here by a
//! foreign name gets nothing.
//! Not here: how a header of a proxy is read (`http::client_address`).

use super::session::Shown;
use super::{App, Caller, Way};
use crate::config::Config;
use crate::http::answer::{Answer, TEXT, bytes, with_header};
use crate::http::client_address::{Scheme, client_address, forwarded_scheme};
use crate::http::error::ApiError;
use hyper::header::{HOST, HeaderMap, HeaderValue, LOCATION};
use hyper::{StatusCode, Uri};
use std::net::IpAddr;

impl App {
    /// Whose request it is, through all proxies that are trusted.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get_all("x-forwarded-for");
        let forwarded: Vec<&[u8]> = forwarded.iter().map(HeaderValue::as_bytes).collect();
        client_address(peer, forwarded.into_iter(), &self.trusted_proxies)
    }

    /// What the caller spoke: to a trusted proxy, as that says, else to us, as far as we see it.
    pub(super) fn scheme(&self, caller: &Caller<'_>, headers: &HeaderMap) -> Option<Scheme> {
        let proto = headers.get("x-forwarded-proto").map(HeaderValue::as_bytes);
        let told = forwarded_scheme(caller.peer.ip().to_canonical(), proto, &self.trusted_proxies);
        told.or((caller.way == Way::Https).then_some(Scheme::Https))
    }

    /// A name that is not ours is a page elsewhere that points its own name here. The key in its header
    /// is nothing that such a page could send.
    pub(super) fn check_host(
        &self,
        shown: Shown,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<(), ApiError> {
        let Some(host) = named_host(headers, uri) else { return Ok(()) };
        let name = host_name(host);
        let is_address = || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_own = || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
        if shown == Shown::Key || name.is_empty() || is_address() || is_own() {
            return Ok(());
        }
        let text = "This server does not answer to that name without the key; see ALLOWED_HOSTS";
        Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", text))
    }

    /// 301 to https for what a trusted proxy received over http (`CONTRACT §1`).
    pub(super) fn redirect(
        &self,
        scheme: Option<Scheme>,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Option<Answer> {
        if !self.redirects_to_https || scheme != Some(Scheme::Http) {
            return None;
        }
        let host = sane_host(headers, uri)?;
        Some(moved(StatusCode::MOVED_PERMANENTLY, "Moved Permanently", &host, uri))
    }
}

/// What browsers are told about https; none when that is nothing.
pub(super) fn hsts(seconds: u32) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(&format!("max-age={seconds}"));
    (seconds > 0).then(|| value.expect("letters and digits"))
}

/// 308 to the same host and path on our port for https; what was posted is posted there again.
pub(super) fn way_to_https(port: u16, headers: &HeaderMap, uri: &Uri) -> Result<Answer, ApiError> {
    let Some(host) = sane_host(headers, uri) else {
        let text = "This port only leads to https; a request must name its Host";
        return Err(ApiError::unreadable(StatusCode::BAD_REQUEST, "host_missing", text));
    };
    let name = host_name(&host);
    let host = if port == 443 { name.to_owned() } else { format!("{name}:{port}") };
    Ok(moved(StatusCode::PERMANENT_REDIRECT, "Permanent Redirect", &host, uri))
}

fn moved(status: StatusCode, reason: &str, host: &str, uri: &Uri) -> Answer {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let to = format!("https://{host}{path}");
    with_header(bytes(status, TEXT, format!("{reason}. Redirecting to {to}")), LOCATION, &to)
}

/// A host as it may stand in an address that we send somebody to.
fn sane_host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let host = named_host(headers, uri)?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (!host_name(host).is_empty() && host.bytes().all(sane)).then(|| host.to_owned())
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The host that a request is for: a whole URL as its target says it, else the header (RFC 9112 §3.2.2).
pub(super) fn named_host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST)?.to_str().ok(),
    }
}

/// The names of this server: `localhost`, the machine's, that of `PUBLIC_URL`, and `ALLOWED_HOSTS`.
pub fn own_names(config: &Config) -> Vec<String> {
    let mut names = config.allowed_hosts.clone();
    names.push("localhost".to_owned());
    names.extend(config.public_url.iter().map(|url| url.host_and_port().0.to_owned()));
    let system = rustix::system::uname();
    if let Ok(machine) = system.nodename().to_str() {
        let short = machine.split('.').next().unwrap_or(machine);
        names.extend([machine.to_owned(), short.to_owned()]);
        names.extend(["local", "lan"].map(|domain| format!("{short}.{domain}")));
    }
    names.retain(|name| !name.is_empty());
    names
}
