//! Sessions as browsers carry them: a cookie that the server has signed, and proof that a request comes
//! from the server's own page.
//!
//! Must stay true: nothing of a cookie is believed before its signature is; signatures are compared in
//! a time that tells nothing; another API key or another secret ends every session; a cookie counts for
//! twelve hours at most, whatever the clock does. Not here: which sessions were ended (`domain`), who
//! may sign in (`api`).

use crate::domain::SESSION_SECONDS;
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{COOKIE, HeaderMap, ORIGIN};
use sha2::{Digest, Sha256};

const COOKIE_NAME: &str = "bloom_session";
/// Cookies of that name that are looked at in one request; another program on this host may set some.
const COOKIES_MAX: usize = 4;
/// A clock that was set back a little after signing in.
const CLOCK_SLACK_MS: i64 = 600_000;

const ID_BYTES: usize = 16;
const BODY_BYTES: usize = 8 + ID_BYTES;
const TOKEN_BYTES: usize = BODY_BYTES + 32;

/// A session whose signature is good and whose time is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    /// Unix milliseconds.
    pub ends_at: i64,
}

impl Session {
    /// What it is called where others may read it; no part of its cookie.
    pub fn name(&self) -> String {
        hex(&Sha256::digest(&self.id)[..4])
    }
}

/// Signs sessions and knows its own signature.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl Signer {
    pub fn new(secret: &str, api_key: &str) -> Signer {
        let key = mac(secret.as_bytes()).chain_update(b"bloom-runtime session\0");
        Signer(mac(&key.chain_update(api_key).finalize().into_bytes()))
    }

    /// A new session and its cookie's value; `random` is its id.
    pub fn issue(&self, random: u128, now: i64) -> (String, Session) {
        let ends_at = now.saturating_add(SESSION_SECONDS * 1000);
        let mut token = ends_at.to_be_bytes().to_vec();
        token.extend(random.to_be_bytes());
        let signature = self.0.clone().chain_update(&token).finalize().into_bytes();
        token.extend(signature);
        (hex(&token), Session { id: hex(&random.to_be_bytes()), ends_at })
    }

    /// The session of a cookie's value, if it is one of ours and not over.
    pub fn read(&self, value: &str, now: i64) -> Option<Session> {
        let token = unhex::<TOKEN_BYTES>(value)?;
        let (body, signature) = token.split_at(BODY_BYTES);
        self.0.clone().chain_update(body).verify_slice(signature).ok()?;
        let (ends_at, id) = body.split_first_chunk()?;
        let ends_at = i64::from_be_bytes(*ends_at);
        let longest = now.saturating_add(SESSION_SECONDS * 1000 + CLOCK_SLACK_MS);
        (now < ends_at && ends_at <= longest).then(|| Session { id: hex(id), ends_at })
    }
}

/// `Set-Cookie` that hands a session over; `secure` when the browser came over https.
pub fn cookie(value: &str, secure: bool) -> String {
    set_cookie(value, SESSION_SECONDS, secure)
}

/// `Set-Cookie` that takes it away.
pub fn no_cookie(secure: bool) -> String {
    set_cookie("", 0, secure)
}

fn set_cookie(value: &str, seconds: i64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}")
}

/// The values of our cookie in a request.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| name.trim() == COOKIE_NAME)
        .map(|(_, value)| value.trim())
        .take(COOKIES_MAX)
}

/// Which page a browser says that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    Own,
    Other,
    /// Nobody says; no browser does that for a request that changes something.
    Unknown,
}

/// What the headers that no page can forge say; `host` is the host that the request names.
pub fn site(headers: &HeaderMap, host: Option<&str>) -> Site {
    let told = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    match (told, headers.get(ORIGIN)) {
        (Some(b"same-origin"), _) => Site::Own,
        (Some(b"none"), None) | (None, None) => Site::Unknown,
        (Some(b"none") | None, Some(origin)) => {
            let named = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            match named.zip(host) {
                Some(((_, named), host)) if named.eq_ignore_ascii_case(host) => Site::Own,
                _ => Site::Other,
            }
        }
        (Some(_), _) => Site::Other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    const NOW: i64 = 1_795_259_464_363;
    const HOURS: i64 = 3_600_000;

    #[test]
    fn a_session_counts_from_its_first_moment_to_its_last() {
        let signer = Signer::new("secret", "key");
        let (value, session) = signer.issue(7, NOW);
        assert_eq!(session.ends_at, NOW + 12 * HOURS);
        for now in [NOW, NOW + HOURS, NOW + 12 * HOURS - 1, NOW - 60_000] {
            assert_eq!(signer.read(&value, now), Some(session.clone()), "{now}");
        }
        for now in [NOW + 12 * HOURS, NOW + 1000 * HOURS, NOW - HOURS, 0, i64::MIN, i64::MAX] {
            assert_eq!(signer.read(&value, now), None, "{now}");
        }
    }

    #[test]
    fn no_other_secret_key_or_digit_makes_a_session() {
        let signer = Signer::new("secret", "key");
        let (value, _) = signer.issue(u128::MAX / 3, NOW);
        for (secret, key) in [("secret", "key2"), ("secret2", "key"), ("secretk", "ey"), ("", "")] {
            assert_eq!(Signer::new(secret, key).read(&value, NOW), None);
        }
        for at in 0..value.len() {
            let mut digits = value.clone().into_bytes();
            digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(signer.read(&String::from_utf8(digits).unwrap(), NOW), None, "{at}");
        }
        for broken in ["", "00", &value[1..], &format!("{value}0"), &"é".repeat(56)] {
            assert_eq!(signer.read(broken, NOW), None, "{broken}");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        HeaderMap::from_iter(pairs.iter().map(header))
    }

    #[test]
    fn our_cookie_is_found_among_others() {
        let found = |line| {
            let headers = headers(&[("cookie", line)]);
            cookies(&headers).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(found("a=b; bloom_session=x; c=d"), ["x"]);
        assert_eq!(found("bloom_session=x;bloom_session=y"), ["x", "y"]);
        assert_eq!(found("xbloom_session=x; BLOOM_SESSION=y; bloom_session"), [""; 0]);
        assert_eq!(found(&"bloom_session=x; ".repeat(9).leak()[..]).len(), COOKIES_MAX);
    }

    #[test]
    fn a_browser_tells_where_a_request_comes_from() {
        let told = |pairs: &[(&'static str, &'static str)]| site(&headers(pairs), Some("pi:5000"));
        for (pairs, expected) in [
            (&[][..], Site::Unknown),
            (&[("sec-fetch-site", "none")], Site::Unknown),
            (&[("sec-fetch-site", "same-origin")], Site::Own),
            (&[("sec-fetch-site", "same-site")], Site::Other),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://pi:5000")], Site::Other),
            (&[("sec-fetch-site", "x")], Site::Other),
            (&[("origin", "http://PI:5000")], Site::Own),
            (&[("origin", "http://pi")], Site::Other),
            (&[("origin", "http://pi:5001")], Site::Other),
            (&[("origin", "http://evil.example")], Site::Other),
            (&[("origin", "null")], Site::Other),
            (&[("origin", "")], Site::Other),
        ] {
            assert_eq!(told(pairs), expected, "{pairs:?}");
        }
        assert_eq!(site(&headers(&[("origin", "http://pi")]), None), Site::Other);
    }
}
