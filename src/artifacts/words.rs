//! Why S3 did not do what was asked, in words for the person who can change it.
//!
//! Must stay true: of what a server says, its code is repeated and nothing else, since it may say our key
//! or signature back to us (P10). Not here: what is done about it (`background::uploads`).

use crate::clock::WallMs;
use std::fmt;
use std::io;
use std::time::Duration;

/// Further apart, S3 refuses what is signed.
const CLOCKS_APART: Duration = Duration::from_secs(15 * 60);
const CODE_CHARS_MAX: usize = 64;

/// Whose fault it is, as far as that decides what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No connection, or what answers is no S3 or sends us elsewhere.
    Unreachable,
    /// It failed on the way: too slow, ended in the middle, an error of the server's.
    BrokeOff,
    /// Our key or our clock.
    Refused,
    NoBucket,
    Full,
    /// It asks us to wait.
    Unavailable,
    /// There is no such object.
    Missing,
    /// There is such a bucket.
    Exists,
    /// This object alone.
    Object,
    /// Something of ours: a file that cannot be read.
    Local,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub words: String,
}

impl Fault {
    pub fn new(kind: FaultKind, words: impl Into<String>) -> Fault {
        Fault { kind, words: words.into() }
    }

    /// Another object would fare no better.
    pub fn is_everyones(&self) -> bool {
        match self.kind {
            FaultKind::Unreachable
            | FaultKind::Refused
            | FaultKind::NoBucket
            | FaultKind::Full
            | FaultKind::Unavailable => true,
            FaultKind::BrokeOff
            | FaultKind::Missing
            | FaultKind::Exists
            | FaultKind::Object
            | FaultKind::Local => false,
        }
    }

    pub fn silent(after: Duration) -> Fault {
        let words = format!("S3 is too slow: nothing moved for {} s", after.as_secs());
        Fault::new(FaultKind::BrokeOff, words)
    }

    pub fn of_connection(error: &hyper::Error) -> Fault {
        match error.is_parse() {
            true => not_s3("what it sends is not HTTP"),
            false => Fault::new(FaultKind::BrokeOff, "the connection to S3 ended in the middle"),
        }
    }

    pub fn of_file(error: &io::Error) -> Fault {
        Fault::new(FaultKind::Local, format!("the file cannot be read: {error}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

pub fn not_s3(why: &str) -> Fault {
    let words = format!("what answers at MINIO_ENDPOINT is no S3: {why}");
    Fault::new(FaultKind::Unreachable, words)
}

/// An answer that is no success.
pub struct Refusal<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// What the server's `Date` says, and what our clock says.
    pub its_time: Option<WallMs>,
    pub our_time: WallMs,
    pub bucket: &'a str,
    pub region: &'a str,
}

impl Refusal<'_> {
    pub fn fault(&self) -> Fault {
        let code = code(self.body);
        let named = code.as_deref().unwrap_or("no code");
        let status = self.status;
        let refused = |words: String| Fault::new(FaultKind::Refused, words);
        if let Some(words) = self.clock(code.as_deref()) {
            return refused(words);
        }
        let words = match (status, named) {
            (300..=399, _) => {
                return Fault::new(
                    FaultKind::Unreachable,
                    format!(
                        "S3 sends us elsewhere ({status}), which is never followed: MINIO_ENDPOINT or \
                         MINIO_REGION ({}) is another",
                        self.region
                    ),
                );
            }
            (_, "SignatureDoesNotMatch") => {
                "S3 refuses our signature: MINIO_SECRET_KEY is not that of MINIO_ACCESS_KEY".into()
            }
            (_, "InvalidAccessKeyId") => "S3 knows no such MINIO_ACCESS_KEY".into(),
            (_, "AuthorizationHeaderMalformed" | "InvalidRegion") => format!(
                "S3 refuses our signature: it is for region {}, set MINIO_REGION to its own",
                self.region
            ),
            (401 | 403, _) => format!(
                "S3 does not allow it ({status} {named}): what MINIO_ACCESS_KEY may do with bucket {} is \
                 set there",
                self.bucket
            ),
            (_, "NoSuchBucket") => {
                let words = format!("S3 has no bucket {}", self.bucket);
                return Fault::new(FaultKind::NoBucket, words);
            }
            (507, _)
            | (_, "XMinioStorageFull" | "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded") => {
                return Fault::new(FaultKind::Full, format!("S3 is full ({status} {named})"));
            }
            (409, "BucketAlreadyOwnedByYou" | "BucketAlreadyExists") => {
                let words = format!("S3 has a bucket {} already", self.bucket);
                return Fault::new(FaultKind::Exists, words);
            }
            (404, "NoSuchKey" | "no code") => {
                return Fault::new(FaultKind::Missing, "S3 has no such object");
            }
            (408 | 429 | 500..=599, _) => {
                // Anything else may be for this object's sake.
                let for_all = matches!(status, 429 | 503);
                let kind = if for_all { FaultKind::Unavailable } else { FaultKind::BrokeOff };
                return Fault::new(kind, format!("S3 cannot now ({status} {named})"));
            }
            (_, "no code") if is_page(self.body) => return not_s3("it sends a web page"),
            _ => {
                let words = format!("S3 refuses this object ({status} {named})");
                return Fault::new(FaultKind::Object, words);
            }
        };
        refused(words)
    }

    /// A signature is refused for its time, or would be.
    fn clock(&self, code: Option<&str>) -> Option<String> {
        let apart = self.its_time.map(|its| its.abs_diff(self.our_time));
        let too_far = apart.is_some_and(|ms| u128::from(ms) > CLOCKS_APART.as_millis());
        if code != Some("RequestTimeTooSkewed") && !(self.status == 403 && too_far) {
            return None;
        }
        let its = self.its_time.map_or("another time".into(), stamp);
        let ours = stamp(self.our_time);
        Some(format!(
            "the clocks are too far apart: here it is {ours}, at S3 {its}; set the one that is wrong"
        ))
    }
}

fn stamp(ms: WallMs) -> String {
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(ms.max(0) as u64))
}

/// What stands in the first `<Code>`, if it is a word.
fn code(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = (1..=CODE_CHARS_MAX).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| code.to_owned())
}

fn is_page(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(512)]).to_ascii_lowercase();
    let start = start.trim_start_matches(['\u{feff}', ' ', '\r', '\n', '\t']);
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultKind::*;

    const NOW: WallMs = 1_795_522_486_000;

    fn fault(status: u16, body: &str) -> Fault {
        let at = (NOW, Some(NOW + 1_000));
        of(status, body, at)
    }

    fn of(status: u16, body: &str, (our_time, its_time): (WallMs, Option<WallMs>)) -> Fault {
        let (bucket, region) = ("bloom-artifacts", "us-east-1");
        Refusal { status, body: body.as_bytes(), its_time, our_time, bucket, region }.fault()
    }

    #[test]
    fn each_refusal_is_told_by_what_a_person_can_change() {
        let with =
            |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        for (status, body, kind, words) in [
            (403, with("SignatureDoesNotMatch"), Refused, "MINIO_SECRET_KEY is not that of"),
            (403, with("InvalidAccessKeyId"), Refused, "no such MINIO_ACCESS_KEY"),
            (403, with("AccessDenied"), Refused, "bucket bloom-artifacts"),
            (400, with("AuthorizationHeaderMalformed"), Refused, "MINIO_REGION"),
            (404, with("NoSuchBucket"), NoBucket, "no bucket bloom-artifacts"),
            (404, with("NoSuchKey"), Missing, "no such object"),
            (404, String::new(), Missing, "no such object"),
            (507, with("XMinioStorageFull"), Full, "S3 is full (507 XMinioStorageFull)"),
            (503, with("SlowDown"), Unavailable, "cannot now (503 SlowDown)"),
            (500, with("InternalError"), BrokeOff, "cannot now (500 InternalError)"),
            (301, with("PermanentRedirect"), Unreachable, "never followed"),
            (400, " <!DOCTYPE html><p>Log in".into(), Unreachable, "a web page"),
            (400, with("EntityTooLarge"), Object, "this object (400 EntityTooLarge)"),
        ] {
            let fault = fault(status, &body);
            assert_eq!(fault.kind, kind, "{status} {body}: {fault}");
            assert!(fault.words.contains(words), "{fault}");
            assert_eq!(
                fault.is_everyones(),
                !matches!(kind, Missing | Object | BrokeOff),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_clock_that_is_off_is_named_with_both_times_also_when_the_code_is_another() {
        let skewed = of(403, "<Code>RequestTimeTooSkewed</Code>", (0, Some(NOW)));
        assert_eq!(skewed.kind, Refused);
        assert!(skewed.words.contains("here it is Thu, 01 Jan 1970 00:00:00 GMT"), "{skewed}");
        assert!(skewed.words.contains("at S3 Tue, 24 Nov 2026"), "{skewed}");
        let hidden = of(403, "<Code>SignatureDoesNotMatch</Code>", (NOW, Some(NOW + 901_000)));
        assert!(hidden.words.contains("clocks are too far apart"), "{hidden}");
        let near = of(403, "<Code>SignatureDoesNotMatch</Code>", (NOW, Some(NOW + 899_000)));
        assert!(near.words.contains("MINIO_SECRET_KEY"), "{near}");
    }

    #[test]
    fn a_server_that_says_our_key_back_is_not_repeated() {
        for body in ["<Code>hunter2 hunter2</Code>", "<Message>hunter2</Message>", "hunter2"] {
            let fault = fault(400, body);
            assert!(!fault.words.contains("hunter2"), "{fault}");
        }
    }
}
