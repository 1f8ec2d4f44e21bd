//! Signatures of requests to S3 (AWS Signature Version 4), made by rust-s3.
//!
//! Must stay true: time comes in as an argument; what is signed is exactly what is sent. Not here: sending
//! it (`s3`).

use crate::clock::WallMs;
use crate::config::{Minio, Secret};
use crate::engine::hexadecimal;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use s3::region::Region;
use s3::signing;
use time::OffsetDateTime;
use url::Url;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// Signs with one pair of keys for one region.
pub struct Signer {
    region: Region,
    access_key: Secret,
    secret_key: Secret,
}

impl Signer {
    pub fn new(minio: &Minio) -> Signer {
        // Of an own region rust-s3 signs the name, and asks for no address.
        let region = Region::Custom { region: minio.region.clone(), endpoint: String::new() };
        let (access_key, secret_key) = (minio.access_key.clone(), minio.secret_key.clone());
        Signer { region, access_key, secret_key }
    }

    pub fn region(&self) -> String {
        self.region.to_string()
    }

    /// The headers that a request must carry. `sha256` is that of its body, 64 hexadecimal digits.
    pub fn headers(&self, method: &str, url: &Url, sha256: &str, now: WallMs) -> HeaderMap {
        let at = moment(now);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, plain(authority(url)));
        headers.insert(CONTENT_SHA256, plain(sha256));
        headers.insert(DATE, plain(&stamp(at)));
        let names = signing::signed_header_string(&headers);
        let signature = self.signature(method, url, &headers, sha256, at);
        let access_key = self.access_key.expose();
        let proof =
            signing::authorization_header(access_key, &at, &self.region, &names, &signature)
                .expect("a date of four-digit years");
        let mut proof = HeaderValue::from_bytes(proof.as_bytes())
            .expect("the configuration takes no key that is no header");
        proof.set_sensitive(true);
        headers.insert(AUTHORIZATION, proof);
        headers
    }

    /// An address under which anybody may get an object for so many seconds: as secret as what lies there.
    pub fn presigned(&self, mut url: Url, seconds: u32, now: WallMs) -> String {
        let at = moment(now);
        let access_key = self.access_key.expose();
        let query = signing::authorization_query_params_no_sig(
            access_key,
            &at,
            &self.region,
            seconds,
            None,
            None,
        )
        .expect("a date of four-digit years");
        let download = "response-content-disposition=attachment";
        url.set_query(Some(&format!("{}&{download}", query.trim_start_matches('?'))));
        let headers = HeaderMap::from_iter([(HOST, plain(authority(&url)))]);
        let signature = self.signature("GET", &url, &headers, "UNSIGNED-PAYLOAD", at);
        format!("{url}&X-Amz-Signature={signature}")
    }

    fn signature(
        &self,
        method: &str,
        url: &Url,
        headers: &HeaderMap,
        sha256: &str,
        at: OffsetDateTime,
    ) -> String {
        let request = signing::canonical_request(method, url, headers, sha256)
            .expect("headers of ours are text");
        let to_sign = signing::string_to_sign(&at, &self.region, &request)
            .expect("a date of four-digit years");
        let key = signing::signing_key(&at, self.secret_key.expose(), &self.region, "s3")
            .expect("any key fits");
        hexadecimal(&hmac_of(&key, to_sign.as_bytes()))
    }
}

/// An object's key as it stands in a path; the slashes stay.
pub fn encoded(key: &str) -> String {
    signing::uri_encode(key, false)
}

fn hmac_of(key: &[u8], text: &[u8]) -> impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any key fits");
    mac.update(text);
    mac.finalize().into_bytes()
}

fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a checked address, digits and letters")
}

/// `host:port` as it stands in the address.
fn authority(url: &Url) -> &str {
    url.authority()
}

/// Years with four digits, whatever a clock without a battery says.
fn moment(now: WallMs) -> OffsetDateTime {
    let at = OffsetDateTime::from_unix_timestamp(now.div_euclid(1_000));
    at.ok().filter(|at| (1..=9_999).contains(&at.year())).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn stamp(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_base_url;

    /// The example of AWS's manual of the signature, "GET Object" and "Presigned URL".
    const AT: WallMs = 1_369_353_600_000;

    fn signer() -> Signer {
        Signer::new(&Minio {
            endpoint: parse_base_url("http://examplebucket.s3.amazonaws.com").unwrap(),
            region: "us-east-1".into(),
            path_style: false,
            access_key: Secret::new("AKIAIOSFODNN7EXAMPLE"),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            bucket: "examplebucket".into(),
            membridge_bucket: "claude-memory".into(),
            keeps_inline: false,
            retention_removes: false,
        })
    }

    #[test]
    fn the_manuals_own_presigned_address_comes_out() {
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").unwrap();
        let at = moment(AT);
        let url = {
            let mut url = url;
            let query = signing::authorization_query_params_no_sig(
                "AKIAIOSFODNN7EXAMPLE",
                &at,
                &signer().region,
                86_400,
                None,
                None,
            );
            url.set_query(Some(query.unwrap().trim_start_matches('?')));
            url
        };
        let headers = HeaderMap::from_iter([(HOST, plain(authority(&url)))]);
        assert_eq!(
            signer().signature("GET", &url, &headers, "UNSIGNED-PAYLOAD", at),
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn a_clock_that_is_decades_off_signs_all_the_same() {
        let url = Url::parse("http://127.0.0.1:9000/b/k").unwrap();
        for now in [0, -1, i64::MAX, i64::MIN, AT] {
            let headers = signer().headers("GET", &url, "e3b0", now);
            assert_eq!(headers[DATE].len(), "20130524T000000Z".len(), "{now}");
            assert!(format!("{headers:?}").contains("Sensitive"));
            assert_eq!(headers[HOST], "127.0.0.1:9000");
        }
    }
}
