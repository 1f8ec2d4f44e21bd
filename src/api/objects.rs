//! Artifacts whose content lies in S3: handed through from there, or the way to them.
//!
//! Must stay true: a whole content is checked while it passes, and its last piece is held back until it is
//! right; a signed address goes to who asked for it and into no log (P10). Not here: who asks (`artifacts`,
//! `tasks`), S3 itself (`crate::artifacts`).

use super::{App, Call};
use crate::artifacts::{Fault, FaultKind, Fetched, Objects, Place};
use crate::domain::{Outcome, StoredObject};
use crate::engine::{Artifact, hexadecimal};
use crate::http::answer::{Answer, Body, TEXT, bytes, with_header};
use crate::http::error::ApiError;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::LOCATION;
use sha2::{Digest, Sha256};
use std::convert::Infallible;

/// How long a signed address is good: to begin with, not to be done.
const PRESIGNED_SECONDS: u32 = 300;
/// An output is never larger than the body that it came in.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;

impl App {
    /// The way to S3 itself, for who asks for it with `?redirect=1`.
    pub(super) fn redirected(&self, call: &Call, artifact: &Artifact) -> Option<Answer> {
        let (objects, object) = (self.objects.as_ref()?, artifact.stored()?);
        if call.query("redirect") != Some("1") {
            return None;
        }
        let url = objects.s3.presigned(place(object), PRESIGNED_SECONDS);
        let answer = bytes(StatusCode::TEMPORARY_REDIRECT, TEXT, Bytes::new());
        Some(with_header(answer, LOCATION, &url))
    }

    /// So many bytes of an object from `first` on; a whole one with its digest.
    pub(super) async fn of_object(
        &self,
        object: &StoredObject,
        first: u64,
        count: u64,
        digest: Option<String>,
    ) -> Result<Body, ApiError> {
        let range = (digest.is_none() && count > 0).then_some(first..first + count);
        let fetched = self.objects(object)?.s3.get(place(object), range).await;
        let fetched = fetched.map_err(|fault| unavailable(&fault, object))?;
        if fetched.bytes != count {
            let words = "it has another size there than when it was put";
            return Err(unavailable(&Fault::new(FaultKind::Object, words), object));
        }
        let (sender, body) = Channel::new(1);
        let key = object.key.clone();
        tokio::spawn(async move {
            if let Err(fault) = pass_on(fetched, sender, digest).await {
                log::warn!("s3: {key} broke off on its way to a caller: {fault}");
            }
        });
        Ok(Either::Right(body))
    }

    /// Puts an output that is only in S3 back into its outcome.
    pub(super) async fn read_back(&self, outcome: &mut Outcome) -> Result<(), ApiError> {
        let (None, Some(object)) = (&outcome.output, &outcome.stored) else { return Ok(()) };
        let reading = async {
            let whole = self.objects(object)?.s3.get(place(object), None).await;
            let whole = match whole {
                Ok(fetched) => fetched.whole(OUTPUT_BYTES_MAX).await,
                Err(fault) => Err(fault),
            };
            whole.map_err(|fault| unavailable(&fault, object))
        };
        let (read, sha256) = (reading.await?, object.sha256.clone());
        let checked = tokio::task::spawn_blocking(move || {
            (hexadecimal(&Sha256::digest(&read)) == sha256).then(|| String::from_utf8(read).ok())
        });
        let text = checked.await.map_err(|_| ApiError::cut_off())?.flatten();
        let text = text.ok_or_else(|| unavailable(&another(), object))?;
        outcome.output = Some(text);
        Ok(())
    }

    fn objects(&self, object: &StoredObject) -> Result<&Objects, ApiError> {
        self.objects.as_deref().ok_or_else(|| {
            let text = format!(
                "The artifact lies in bucket {} of S3, which is not set up (MINIO_ENDPOINT and its keys)",
                object.bucket
            );
            ApiError::unavailable("artifact_unavailable", text)
        })
    }
}

/// Sends what comes; stops before the last piece when the whole is another than it was.
async fn pass_on(
    mut fetched: Fetched,
    mut sender: Sender<Bytes, Infallible>,
    digest: Option<String>,
) -> Result<(), Fault> {
    let (mut sum, mut held) = (Sha256::new(), None::<Bytes>);
    while let Some(piece) = fetched.next().await {
        let piece = piece?;
        if digest.is_some() {
            sum.update(&piece);
        }
        if let Some(before) = held.replace(piece)
            && sender.send_data(before).await.is_err()
        {
            // The caller is gone.
            return Ok(());
        }
    }
    if digest.is_some_and(|digest| hexadecimal(&sum.finalize()) != digest) {
        return Err(another());
    }
    if let Some(last) = held {
        let _ = sender.send_data(last).await;
    }
    Ok(())
}

fn place(object: &StoredObject) -> Place<'_> {
    Place { bucket: &object.bucket, key: &object.key }
}

fn another() -> Fault {
    Fault::new(FaultKind::Object, "its content there is another than when it was put")
}

fn unavailable(fault: &Fault, object: &StoredObject) -> ApiError {
    let text = format!("The artifact lies in bucket {} of S3: {fault}", object.bucket);
    ApiError::unavailable("artifact_unavailable", text)
}
