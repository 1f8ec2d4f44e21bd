//! Where artifacts are kept in S3 (`MINIO_*`), and what becomes of the copy in our store.
//!
//! What must stay true: S3 is on when address, access key and secret key are all set, as in the system
//! that we replace, and else one line says which is missing. Not here: the calls (`artifacts`).

use super::error::{ConfigError, shown};
use super::sources::Sources;
use super::{BaseUrl, Secret, number, parse_base_url, switch, url};
use std::net::IpAddr;

const NAMES: [&str; 3] = ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"];

/// Where artifacts are kept outside of the embedded store.
#[derive(Clone, Debug)]
pub struct Minio {
    pub endpoint: BaseUrl,
    pub region: String,
    /// `endpoint/bucket/key`; otherwise the bucket is the first label of the host's name.
    pub path_style: bool,
    pub access_key: Secret,
    pub secret_key: Secret,
    /// Artifacts; made when it is missing.
    pub bucket: String,
    /// Where Membridge's scripts keep who leads a project; only ever read.
    pub membridge_bucket: String,
    /// The copy in our store stays also when the one in S3 has been verified.
    pub keeps_inline: bool,
    /// Retention removes objects too.
    pub retention_removes: bool,
}

/// S3 as it is set; without it, which of its settings are there and which are missing.
pub(super) struct Found {
    pub minio: Option<Minio>,
    pub incomplete: Option<String>,
}

/// `MINIO_ENDPOINT` is a bare host, `host:port` or a URL. `MINIO_PORT` counts where no port is written,
/// `MINIO_USE_SSL` where no scheme is.
pub(super) fn minio(sources: &Sources) -> Result<Found, ConfigError> {
    let port = sources.parsed("MINIO_PORT", "9000", |text| match number(text, 65_535)? {
        0 => Err("0 is no port to call".to_owned()),
        port => Ok(port),
    })?;
    let tls = sources.parsed("MINIO_USE_SSL", "true", switch)?.unwrap_or_default();
    let endpoint = sources.parsed("MINIO_ENDPOINT", "http://127.0.0.1:9000", |text| {
        let scheme = if tls { "https" } else { "http" };
        match text.contains("://") {
            true => url(text),
            false if text.contains(':') => url(&format!("{scheme}://{text}")),
            false => url(&format!("{scheme}://{text}:{}", port.unwrap_or(9000))),
        }
    })?;
    let named = |name, usually: &str| {
        let found = sources.parsed(name, usually, bucket_name)?;
        Ok(found.unwrap_or_else(|| usually.to_owned()))
    };
    let (bucket, membridge_bucket) = (
        named("MINIO_ARTIFACT_BUCKET", "bloom-artifacts")?,
        named("MEMBRIDGE_BUCKET", "claude-memory")?,
    );
    let region = sources.parsed("MINIO_REGION", "us-east-1", region)?;
    let path_style = path_style(sources, endpoint.as_ref())?;
    let keeps_inline = sources.parsed("ARTIFACT_INLINE", "until_uploaded", keeps_inline)?;
    let retention_removes = sources.parsed("RETENTION_S3", "1", switch)?.unwrap_or_default();
    let (access_key, secret_key) =
        (sources.header_secret(NAMES[1])?, sources.secret(NAMES[2])?.map(|(secret, _)| secret));
    let is_set = [endpoint.is_some(), access_key.is_some(), secret_key.is_some()];
    let incomplete = incomplete(is_set);
    let (Some(endpoint), Some(access_key), Some(secret_key)) = (endpoint, access_key, secret_key)
    else {
        return Ok(Found { minio: None, incomplete });
    };
    let minio = Minio {
        endpoint,
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        path_style,
        access_key,
        secret_key,
        bucket,
        membridge_bucket,
        keeps_inline: keeps_inline.unwrap_or_default(),
        retention_removes,
    };
    Ok(Found { minio: Some(minio), incomplete })
}

fn incomplete(is_set: [bool; 3]) -> Option<String> {
    let names = |wanted: bool| {
        let names = NAMES.iter().zip(is_set).filter(|(_, set)| *set == wanted);
        names.map(|(name, _)| *name).collect::<Vec<_>>().join(" and ")
    };
    let (set, missing) = (names(true), names(false));
    let said = format!("artifacts stay in the embedded store: {set} without {missing} is not S3");
    (!set.is_empty() && !missing.is_empty()).then_some(said)
}

/// Without `MINIO_PATH_STYLE`: on, as MinIO wants it.
fn path_style(sources: &Sources, endpoint: Option<&BaseUrl>) -> Result<bool, ConfigError> {
    let on = sources.parsed("MINIO_PATH_STYLE", "1", |text| match (switch(text)?, endpoint) {
        (false, Some(endpoint)) if endpoint.host_and_port().0.parse::<IpAddr>().is_ok() => {
            Err("the bucket cannot stand before an IP address in MINIO_ENDPOINT".to_owned())
        }
        (on, _) => Ok(on),
    })?;
    Ok(on.unwrap_or(true))
}

fn bucket_name(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let is_one = (3..=63).contains(&text.len())
        && text.bytes().all(allowed)
        // It becomes a segment of a path and perhaps a part of a host's name.
        && parse_base_url(&format!("http://{text}.example")).is_ok()
        && !text.contains("..")
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-']);
    match is_one {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is no bucket name (3 to 63 small letters, digits, dots and hyphens)",
            shown(text)
        )),
    }
}

fn region(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match text.len() <= 64 && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is no name of a region", shown(text))),
    }
}

fn keeps_inline(text: &str) -> Result<bool, String> {
    match text {
        "keep" => Ok(true),
        "until_uploaded" => Ok(false),
        _ => Err(format!("{} is neither until_uploaded nor keep", shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_is_missing_and_none_when_nothing_or_all_is_set() {
        assert_eq!(incomplete([false; 3]), None);
        assert_eq!(incomplete([true; 3]), None);
        let said = incomplete([true, true, false]).unwrap();
        assert!(said.contains("MINIO_ENDPOINT and MINIO_ACCESS_KEY without MINIO_SECRET_KEY"));
    }

    #[test]
    fn a_bucket_is_one_segment_and_labels_of_a_host() {
        for good in ["bloom-artifacts", "a.b", "123"] {
            assert!(bucket_name(good).is_ok(), "{good}");
        }
        for bad in ["..", "...", "a..b", ".ab", "ab-", "A-b", "ab", "a/b", "a_b"] {
            assert!(bucket_name(bad).is_err(), "{bad}");
        }
    }
}
