//! Artifacts: their content from wherever it lies, and files that workers return.
//!
//! Must stay true: content goes out as a file that no browser runs; a whole one is checked against its
//! digest while it passes, and breaks off when it is another; what arrives is never held in memory (P9).
//! Not here: lists (`lists`), who may add a file (`domain::artifact`).

use super::tasks::task_id;
use super::{App, Call};
use crate::domain::{NewFile, Refusal, StoredObject};
use crate::engine::{Arriving, Artifact, EngineError, NotKept, hexadecimal, system_random};
use crate::http::answer::{Answer, Body as Sent, TEXT, bytes, json, with_body, with_header};
use crate::http::arrival::{Pace, next_piece};
use crate::http::error::ApiError;
use crate::http::ranges::{Wanted, wanted};
use crate::wire;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use hyper::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use tokio::sync::{mpsc, oneshot};

/// The longest name and type of a file, in characters.
const NAME_CHARS_MAX: usize = 255;
const TYPE_CHARS_MAX: usize = 127;
/// Bytes that are read from a file at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces between a socket and a file.
const PIECES_WAITING: usize = 4;

/// Content, and what it is.
struct Content {
    source: Source,
    length: u64,
    sha256: String,
    content_type: HeaderValue,
    file_name: String,
}

enum Source {
    Memory(Bytes),
    File(File),
    Object(StoredObject),
}

impl App {
    pub(super) async fn artifact(&self, call: &Call) -> Result<Answer, ApiError> {
        let artifact = self.read_artifact(call).await?;
        Ok(json(StatusCode::OK, &wire::artifact(&artifact)))
    }

    async fn read_artifact(&self, call: &Call) -> Result<Artifact, ApiError> {
        let id = call.route.id.parse().map_err(|_| Refusal::ArtifactNotFound)?;
        Ok(self.engine.read(move |query| query.artifact(id)).await?)
    }

    pub(super) async fn artifact_content(&self, call: &Call) -> Result<Answer, ApiError> {
        let artifact = self.read_artifact(call).await?;
        if let Some(answer) = self.redirected(call, &artifact) {
            return Ok(answer);
        }
        let content = self.content(artifact).await?;
        self.sent(call, content).await
    }

    async fn content(&self, artifact: Artifact) -> Result<Content, ApiError> {
        let id = artifact.id();
        match artifact {
            Artifact::Output(outcome) => {
                let file_name = format!("{id}.txt");
                if let (None, Some(object)) = (&outcome.output, outcome.stored) {
                    return Ok(Content::of_object(object, TEXT, file_name));
                }
                let is_content = outcome.status == crate::domain::CompletionStatus::Success;
                let text = outcome.output.filter(|_| is_content).ok_or_else(|| {
                    let text = "The artifact has no content";
                    ApiError::new(StatusCode::NOT_FOUND, "artifact_empty", text)
                })?;
                let (text, sha256) = tokio::task::spawn_blocking(move || {
                    let sha256 = hexadecimal(&Sha256::digest(text.as_bytes()));
                    (Bytes::from(text), sha256)
                })
                .await
                .map_err(|_| unreadable())?;
                Ok(Content {
                    length: text.len() as u64,
                    source: Source::Memory(text),
                    sha256,
                    content_type: TEXT,
                    file_name,
                })
            }
            Artifact::File(mut file) => {
                let folder = self.engine.query().files();
                let open = |name: &Option<String>| Some(folder.as_ref()?.read(name.as_ref()?));
                let mut opened = open(&file.on_disk);
                if matches!(opened, Some(Err(_)))
                    && let Artifact::File(now) =
                        self.engine.read(move |query| query.artifact(id)).await?
                {
                    // It went to S3 in this moment.
                    (opened, file) = (open(&now.on_disk), now);
                }
                let content_type = HeaderValue::from_str(&file.content_type)
                    .unwrap_or(HeaderValue::from_static("application/octet-stream"));
                match (opened, file.stored) {
                    (Some(Ok(opened)), _) => Ok(Content {
                        source: Source::File(opened),
                        length: file.bytes,
                        sha256: file.sha256,
                        content_type,
                        file_name: file.name,
                    }),
                    (_, Some(object)) => Ok(Content::of_object(object, content_type, file.name)),
                    (failed, None) => {
                        let why = failed.and_then(Result::err);
                        log::error!("the file of artifact {id} cannot be read: {why:?}");
                        Err(unreadable())
                    }
                }
            }
        }
    }

    async fn sent(&self, call: &Call, content: Content) -> Result<Answer, ApiError> {
        let tag = format!("\"{}\"", content.sha256);
        let Content { length, .. } = content;
        let (status, first, count) = match wanted(&call.headers, &tag, length) {
            Wanted::Whole => (StatusCode::OK, 0, length),
            Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            Wanted::NotModified => {
                let answer = bytes(StatusCode::NOT_MODIFIED, content.content_type, Bytes::new());
                return Ok(with_header(answer, ETAG, &tag));
            }
            Wanted::OutOfRange => {
                let text =
                    format!("The artifact has {length} bytes; nothing of that range is there");
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let answer = ApiError::new(status, "out_of_range", text).into_answer();
                return Ok(with_header(answer, CONTENT_RANGE, &format!("bytes */{length}")));
            }
        };
        // Only a whole one can be checked.
        let digest = (status == StatusCode::OK).then(|| content.sha256.clone());
        let body: Sent = match content.source {
            _ if call.is_head => Either::Left(Full::default()),
            Source::Memory(all) => {
                Either::Left(Full::new(all.slice(first as usize..(first + count) as usize)))
            }
            Source::File(file) => Either::Right(of_file(file, first, count, digest)),
            Source::Object(object) => self.of_object(&object, first, count, digest).await?,
        };
        let mut answer = with_body(status, content.content_type, body);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(count));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {first}-{}/{length}", first + count - 1);
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits"));
        }
        let answer = with_header(answer, ETAG, &tag);
        Ok(with_header(answer, CONTENT_DISPOSITION, &disposition(&content.file_name)))
    }

    pub(super) async fn add_file<B>(&self, call: &Call, body: B) -> Result<Answer, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let task = task_id(call)?;
        let lease = call.query("lease_id").filter(|id| !id.is_empty());
        let claim = wire::named_lease(lease.or(call.route.lease.as_deref()));
        let (name, content_type) = (file_name(call)?, file_type(call)?);
        // Nobody sends a hundred megabytes to hear that there is no such task.
        self.engine.read(move |query| query.status(task)).await?;
        let _turn = self.arrivals.try_acquire().map_err(|_| {
            let text = "Too many files arrive at once; try again in a second";
            ApiError::unavailable("files_in_flight", text).closing()
        })?;
        let arriving = self.receive_file(body).await?;
        let (tell, told) = oneshot::channel();
        on_a_thread(move || drop(tell.send(arriving.finish(task.seq()))))?;
        let kept = told.await.map_err(|_| unreadable())?.map_err(not_kept)?;
        let on_disk = kept.on_disk.clone();
        let (bytes, sha256) = (kept.bytes, kept.sha256);
        let new = NewFile { name, content_type, bytes, sha256, on_disk: kept.on_disk };
        match self.engine.add_file(task, claim, new).await {
            Ok(file) => Ok(json(StatusCode::CREATED, &wire::artifact(&Artifact::File(file)))),
            Err(error) => {
                // One that may have been written after all is looked at by the next start.
                if !matches!(error, EngineError::OutcomeUnknown(_))
                    && let Some(folder) = self.engine.query().files()
                {
                    folder.remove(&on_disk);
                }
                Err(error.into())
            }
        }
    }

    /// Takes the body into a file that has no name yet.
    async fn receive_file<B>(&self, mut body: B) -> Result<Arriving, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let bytes_max = self.file_limits.each;
        let too_large = || {
            let text = format!("The file is larger than {} MiB", bytes_max >> 20);
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text).closing()
        };
        if body.size_hint().lower() > bytes_max {
            return Err(too_large());
        }
        let folder = self.engine.query().files().ok_or_else(unreadable)?;
        let all_max = self.file_limits.all;
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES_WAITING);
        let (tell, told) = oneshot::channel();
        on_a_thread(move || {
            let random = system_random()() as u64;
            let written = folder.begin(all_max, random).and_then(|mut file| {
                while let Some(piece) = waiting.blocking_recv() {
                    file.write(&piece)?;
                }
                Ok(file)
            });
            drop(waiting);
            drop(tell.send(written));
        })?;
        let (mut length, mut pace) = (0, Pace::default());
        while let Some(piece) = next_piece(&mut body, &mut pace).await? {
            length += piece.len() as u64;
            if length > bytes_max {
                return Err(too_large());
            }
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        told.await.map_err(|_| unreadable())?.map_err(not_kept)
    }
}

impl Content {
    fn of_object(object: StoredObject, content_type: HeaderValue, file_name: String) -> Content {
        Content {
            length: object.bytes,
            sha256: object.sha256.clone(),
            source: Source::Object(object),
            content_type,
            file_name,
        }
    }
}

/// Sends so many bytes of a file from `first` on. A whole file whose digest is another one ends before its
/// last piece, which the caller sees as a connection that broke off.
fn of_file(
    mut file: File,
    first: u64,
    count: u64,
    digest: Option<String>,
) -> Channel<Bytes, std::convert::Infallible> {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let (mut left, mut sum, mut began) = (count, Sha256::new(), false);
        while left > 0 {
            let length = left.min(PIECE_BYTES as u64) as usize;
            let read = tokio::task::spawn_blocking(move || {
                if !began {
                    file.seek(SeekFrom::Start(first))?;
                }
                let mut piece = vec![0; length];
                file.read_exact(&mut piece)?;
                sum.update(&piece);
                std::io::Result::Ok((file, sum, Bytes::from(piece)))
            });
            let Ok(Ok((read_on, summed, piece))) = read.await else {
                log::error!("a returned file could not be read to its end");
                return;
            };
            (file, sum, began) = (read_on, summed, true);
            left -= length as u64;
            if left == 0
                && let Some(digest) = &digest
                && hexadecimal(&sum.clone().finalize()) != *digest
            {
                log::error!("a returned file is not what it was when it came: its digest differs");
                return;
            }
            if sender.send_data(piece).await.is_err() {
                // The caller is gone.
                return;
            }
        }
    });
    body
}

fn on_a_thread(work: impl FnOnce() + Send + 'static) -> Result<(), ApiError> {
    let started = std::thread::Builder::new().name("file".into()).spawn(work);
    started.map(drop).map_err(|_| {
        let text = "The server has no thread for this; try again in a second";
        ApiError::unavailable("files_in_flight", text)
    })
}

fn unreadable() -> ApiError {
    let text = "The data on disk could not be read; the server's log says why";
    ApiError::unavailable("store_unreadable", text)
}

fn not_kept(why: NotKept) -> ApiError {
    let full = |code, text| ApiError::new(StatusCode::INSUFFICIENT_STORAGE, code, text).closing();
    match why {
        NotKept::NoRoom => full(
            "files_full",
            "The files of all tasks are as many bytes as they may be (ARTIFACTS_MB_MAX); nothing was kept",
        ),
        NotKept::Disk(error) if error.kind() == std::io::ErrorKind::StorageFull => full(
            "disk_full",
            "The server's disk is full; nothing was changed. Free some space, the server goes on by itself",
        ),
        NotKept::Disk(error) => {
            log::error!("a returned file cannot be written: {error}");
            let text = "Writing to the server's disk failed; nothing was changed, try again. The server's log says why";
            ApiError::unavailable("write_failed", text).closing()
        }
    }
}

/// A name for saving: nothing that leads to another folder, and nothing that cannot be seen.
fn file_name(call: &Call) -> Result<String, ApiError> {
    let name = call.query("name").unwrap_or_default();
    let is_plain = |c: char| !c.is_control() && c != '/' && c != '\\';
    let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    if fits && name.chars().all(is_plain) && name != "." && name != ".." {
        return Ok(name.to_owned());
    }
    let text = format!(
        "name must be a file's name of 1 to {NAME_CHARS_MAX} characters without slashes, such as ?name=plan.md"
    );
    Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_file_name", text).closing())
}

fn file_type(call: &Call) -> Result<String, ApiError> {
    let header = |name| call.headers.get(name).map(|value| value.to_str().unwrap_or("?").trim());
    if header(CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        let text = "Compressed bodies are not supported; send the file as it is";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::new(status, "unsupported_body", text).closing());
    }
    let sent = call.query("type").or(header(CONTENT_TYPE)).filter(|text| !text.is_empty());
    let found = sent.unwrap_or("application/octet-stream");
    let is_type = found.len() <= TYPE_CHARS_MAX
        && found.contains('/')
        && found.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_type {
        return Ok(found.to_owned());
    }
    let text = format!("type must be a media type of at most {TYPE_CHARS_MAX} characters");
    Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_file_type", text).closing())
}

/// The name in ASCII for every client, and as it is for those who know RFC 6266.
fn disposition(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '_' };
    let ascii: String = name.chars().map(safe).collect();
    if ascii == name {
        return format!("attachment; filename=\"{ascii}\"");
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_in_ascii_and_as_it_is() {
        assert_eq!(disposition("a.txt"), "attachment; filename=\"a.txt\"");
        assert_eq!(
            disposition("план \"x\".md"),
            "attachment; filename=\"______x_.md\"; \
             filename*=UTF-8''%D0%BF%D0%BB%D0%B0%D0%BD%20%22x%22.md"
        );
    }
}
