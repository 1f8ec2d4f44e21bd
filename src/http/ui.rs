//! The page's files as answers: packed into the program, or from a folder while the page is made.
//!
//! Must stay true: only files of the page can be had, whatever a path says; a file under the hash of all
//! files may be kept for ever, the page itself is asked for anew each time; every answer carries the
//! strict policy. Not here: which paths are the page's (`routes`), the packing (`build.rs`).

use super::answer::{Answer, Body, bytes};
use super::error::ApiError;
use flate2::read::GzDecoder;
use http_body_util::{Either, Full};
use hyper::StatusCode;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY,
};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file of `web/`, kept as almost every browser takes it.
struct Packed {
    name: &'static str,
    gzip: &'static [u8],
}

impl Packed {
    fn unpacked(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        GzDecoder::new(self.gzip).read_to_end(&mut raw).expect("the build packed it");
        raw
    }
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

const INDEX: &str = "index.html";
/// What stands for the hash in `web/index.html`, and in addresses while the page is made.
const NO_HASH: &str = "-";
/// Largest file that is served from a folder.
const FILE_BYTES_MAX: u64 = 4 << 20;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_EACH_TIME: &str = "no-cache";
const NEVER_KEPT: &str = "no-store";

/// Where the page comes from.
pub enum Ui {
    Packed,
    Folder(PathBuf),
}

impl Ui {
    /// The page itself, at the address of any view.
    pub fn page(&self, headers: &HeaderMap) -> Result<Answer, ApiError> {
        match self {
            Ui::Packed => packed(INDEX, ASK_EACH_TIME, headers),
            Ui::Folder(folder) => from_folder(folder, INDEX),
        }
    }

    /// A file by what stands behind `/ui/`: the hash, a slash, its name.
    pub fn file(&self, path: &str, headers: &HeaderMap) -> Result<Answer, ApiError> {
        let (hash, name) = path.split_once('/').ok_or_else(ApiError::not_found)?;
        match self {
            Ui::Packed if hash == HASH => packed(name, FOR_EVER, headers),
            Ui::Folder(folder) if hash == NO_HASH => from_folder(folder, name),
            _ => Err(ApiError::not_found()),
        }
    }
}

fn packed(name: &str, caching: &'static str, headers: &HeaderMap) -> Result<Answer, ApiError> {
    let file = FILES.iter().find(|file| file.name == name).ok_or_else(ApiError::not_found)?;
    let is_gzip = takes_gzip(headers);
    let tag = if is_gzip { format!("\"{HASH}-gz\"") } else { format!("\"{HASH}\"") };
    let mut answer = match has(headers) {
        true => not_modified(),
        false if is_gzip => bytes(StatusCode::OK, content_type(name), file.gzip),
        false => bytes(StatusCode::OK, content_type(name), file.unpacked()),
    };
    let own = answer.headers_mut();
    if is_gzip && answer_has_body(own) {
        own.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    own.insert(ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits"));
    own.insert(VARY, HeaderValue::from_static("accept-encoding"));
    protect(own, caching);
    Ok(answer)
}

fn from_folder(folder: &Path, name: &str) -> Result<Answer, ApiError> {
    let is_plain = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
    };
    let path = folder.join(name);
    let is_file = name.split('/').all(is_plain)
        && path.metadata().is_ok_and(|found| found.is_file() && found.len() <= FILE_BYTES_MAX);
    let read = is_file.then(|| std::fs::read(&path).ok()).flatten();
    let body = read.ok_or_else(ApiError::not_found)?;
    let mut answer = bytes(StatusCode::OK, content_type(name), body);
    protect(answer.headers_mut(), NEVER_KEPT);
    Ok(answer)
}

fn not_modified() -> Answer {
    let body: Body = Either::Left(Full::default());
    let mut answer = Answer::new(body);
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer
}

fn answer_has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_TYPE)
}

fn protect(headers: &mut HeaderMap, caching: &'static str) {
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    let permissions = HeaderName::from_static("permissions-policy");
    for (name, value) in [
        (CACHE_CONTROL, caching),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (opener, "same-origin"),
        (permissions, "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn content_type(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    })
}

/// The parts of a header that is a list, over all its lines.
fn listed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Whether the caller already has this version, packed or not.
fn has(headers: &HeaderMap) -> bool {
    listed(headers, IF_NONE_MATCH).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        tag == "*" || tag.strip_suffix("-gz").unwrap_or(tag) == HASH
    })
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut any = None;
    for coding in listed(headers, ACCEPT_ENCODING) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
        let is_wanted = quality.parse().is_ok_and(|quality: f32| quality > 0.0);
        if name.eq_ignore_ascii_case("gzip") {
            return is_wanted;
        }
        if name == "*" {
            any = Some(is_wanted);
        }
    }
    any.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        for value in ["gzip", "br, GZIP;q=0.5", "*", "identity;q=0, *;q=1", "deflate , gzip"] {
            assert!(takes_gzip(&accepting(value)), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "*;q=1, gzip;q=0", "gzip; q=0.0", "xgzip"] {
            assert!(!takes_gzip(&accepting(value)), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn no_name_leads_out_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let web = dir.path().join("web");
        std::fs::create_dir_all(web.join("js")).unwrap();
        std::fs::write(dir.path().join("secret.js"), "s").unwrap();
        std::fs::write(web.join(".hidden"), "s").unwrap();
        std::fs::write(web.join("js/a.js"), "a").unwrap();
        let ui = Ui::Folder(web);
        let status = |path: &str| match ui.file(path, &HeaderMap::new()) {
            Ok(answer) => answer.status().as_u16(),
            Err(error) => error.status.as_u16(),
        };
        assert_eq!(status("-/js/a.js"), 200);
        for path in [
            "-/../secret.js",
            "-/js/../../secret.js",
            "-//etc/passwd",
            "-/.hidden",
            "-/js",
            "-/js/",
            "-/%2e%2e/secret.js",
            "-",
            "x/js/a.js",
        ] {
            assert_eq!(status(path), 404, "{path}");
        }
    }
}
