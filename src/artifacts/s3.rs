//! The client of S3: objects are put, read and deleted, a bucket is made when it is missing.
//!
//! Must stay true: memory does not grow with an object, which goes through bit by bit; whatever moves no
//! byte for `IDLE` ends; no redirect is followed; neither keys nor signed addresses are logged (P10). Not
//! here: the connection (`outgoing`), signatures (`signing`), retries.

use super::signing::{Signer, encoded};
use super::words::{Fault, FaultKind, Refusal, not_s3};
use crate::clock::Clock;
use crate::config::{BaseUrl, Minio, parse_base_url};
use crate::engine::hexadecimal;
use crate::outgoing::{Body, Connection, Dialer, whole};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RANGE};
use hyper::{Request, Response};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;
use url::Url;

/// Nothing moved for so long: it will not any more.
const IDLE: Duration = Duration::from_secs(30);
/// What is held of an object on its way up, and pieces of it that wait to be sent.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_WAITING: usize = 1;
/// What is read of an answer that is no success.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
}

/// The content of an object, and what it is.
#[derive(Clone, Debug)]
pub struct Content {
    pub source: Source,
    pub bytes: u64,
    /// 64 small hexadecimal digits.
    pub sha256: String,
    pub content_type: String,
}

#[derive(Clone, Debug)]
pub enum Source {
    Memory(Bytes),
    File(PathBuf),
}

/// The way to one S3 service.
pub struct S3 {
    dialer: Dialer,
    endpoint: BaseUrl,
    path_style: bool,
    signer: Signer,
    clock: Arc<dyn Clock>,
    /// How long nothing may move.
    pub idle: Duration,
}

/// An object, or a part of it, on its way here.
pub struct Fetched {
    /// What is to come.
    pub bytes: u64,
    body: Incoming,
    idle: Duration,
    _connection: Connection,
}

impl S3 {
    pub fn new(minio: &Minio, dialer: Dialer, clock: Arc<dyn Clock>) -> S3 {
        let (endpoint, path_style) = (minio.endpoint.clone(), minio.path_style);
        S3 { dialer, endpoint, path_style, signer: Signer::new(minio), clock, idle: IDLE }
    }

    /// Puts an object, and makes its bucket when there is none.
    pub async fn put(&self, place: Place<'_>, content: &Content) -> Result<(), Fault> {
        let put = match self.put_once(place, content).await {
            Err(Fault { kind: FaultKind::NoBucket, .. }) => {
                self.make_bucket(place.bucket).await?;
                self.put_once(place, content).await
            }
            put => put,
        };
        match put {
            // Who hangs up in the middle may say why when there is less to send.
            Err(fault) if fault.kind == FaultKind::BrokeOff => match self.get(place, None).await {
                Err(why) if why.is_everyones() => Err(why),
                _ => Err(fault),
            },
            put => put,
        }
    }

    async fn put_once(&self, place: Place<'_>, content: &Content) -> Result<(), Fault> {
        let url = self.url(place);
        let mut headers = self.headers("PUT", &url, &content.sha256);
        headers.insert(CONTENT_LENGTH, content.bytes.into());
        let named = HeaderValue::from_str(&content.content_type).ok();
        headers.extend(named.map(|named| (CONTENT_TYPE, named)));
        let (pieces, body) = Channel::new(PIECES_WAITING);
        let pumping = pump(content.source.clone(), content.bytes, pieces, self.idle);
        let mut connection = self.connect(place.bucket).await?;
        let request = request("PUT", &url, headers, body.boxed_unsync());
        let answer = {
            let mut answering = pin!(connection.sender.send_request(request));
            tokio::select! {
                answer = &mut answering => answer,
                pumped = pumping => {
                    pumped?;
                    in_time(self.idle, answering).await?
                }
            }
        };
        let answer = answer.map_err(|error| Fault::of_connection(&error))?;
        self.done(answer, place.bucket).await
    }

    /// Says of an object that it is there, and how large.
    pub async fn head(&self, place: Place<'_>) -> Result<Option<u64>, Fault> {
        match self.ask("HEAD", place, HeaderMap::new(), &[]).await {
            Ok((answer, _)) => length(&answer).map(Some),
            Err(Fault { kind: FaultKind::Missing, .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// An object, or the bytes of it in `range`, which must lie within it.
    pub async fn get(&self, place: Place<'_>, range: Option<Range<u64>>) -> Result<Fetched, Fault> {
        let mut headers = HeaderMap::new();
        if let Some(Range { start, end }) = &range {
            let bytes = format!("bytes={start}-{}", end.saturating_sub(1));
            headers.insert(RANGE, bytes.parse().expect("digits"));
        }
        let (answer, connection) = self.ask("GET", place, headers, &[]).await?;
        let bytes = length(&answer)?;
        let partial = answer.status().as_u16() == 206;
        if partial != range.is_some() || range.is_some_and(|range| range.end - range.start != bytes)
        {
            return Err(not_s3("it sends another part of an object than was asked for"));
        }
        let (body, idle) = (answer.into_body(), self.idle);
        Ok(Fetched { bytes, body, idle, _connection: connection })
    }

    /// Deletes an object; one that is not there is deleted.
    pub async fn delete(&self, place: Place<'_>) -> Result<(), Fault> {
        match self.ask("DELETE", place, HeaderMap::new(), &[]).await {
            Ok(_) => Ok(()),
            Err(fault) if matches!(fault.kind, FaultKind::Missing | FaultKind::NoBucket) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Makes a bucket of ours; one that is there is made.
    pub async fn make_bucket(&self, bucket: &str) -> Result<(), Fault> {
        let body = match self.signer.region().as_str() {
            "us-east-1" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        let place = Place { bucket, key: "" };
        match self.ask("PUT", place, HeaderMap::new(), body.as_bytes()).await {
            Ok(_) => {
                log::info!("s3: bucket {bucket} was missing and is made");
                Ok(())
            }
            // Another made it meanwhile, or it is somebody else's: the next put says which.
            Err(Fault { kind: FaultKind::Exists, .. }) => Ok(()),
            Err(Fault { kind, words }) => {
                let words = format!("bucket {bucket} is missing and cannot be made: {words}");
                Err(Fault { kind, words })
            }
        }
    }

    /// An address under which anybody may get the object for so many seconds.
    pub fn presigned(&self, place: Place<'_>, seconds: u32) -> String {
        self.signer.presigned(self.url(place), seconds, self.clock.now().wall)
    }

    /// Sends a request with a small body, and takes its answer if it is a success.
    async fn ask(
        &self,
        method: &'static str,
        place: Place<'_>,
        more: HeaderMap,
        body: &[u8],
    ) -> Result<(Response<Incoming>, Connection), Fault> {
        let url = self.url(place);
        let mut headers = self.headers(method, &url, &hexadecimal(&Sha256::digest(body)));
        headers.extend(more);
        let mut connection = self.connect(place.bucket).await?;
        let request = request(method, &url, headers, whole(body.to_vec()));
        let answer = in_time(self.idle, connection.sender.send_request(request)).await?;
        let answer = answer.map_err(|error| Fault::of_connection(&error))?;
        match answer.status().is_success() {
            true => Ok((answer, connection)),
            false => Err(self.refusal(answer, place.bucket).await),
        }
    }

    /// Takes the answer to a put, of which nothing but its success is wanted.
    async fn done(&self, answer: Response<Incoming>, bucket: &str) -> Result<(), Fault> {
        if !answer.status().is_success() {
            return Err(self.refusal(answer, bucket).await);
        }
        let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        match kind.is_some_and(|kind| kind.starts_with(b"text/html")) {
            true => Err(not_s3("it sends a web page")),
            false => Ok(()),
        }
    }

    async fn refusal(&self, answer: Response<Incoming>, bucket: &str) -> Fault {
        let (status, our_time) = (answer.status().as_u16(), self.clock.now().wall);
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let its_time = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let its_time = its_time.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let its_time = its_time.map(|since| since.as_millis() as i64);
        let mut stream = answer.into_body();
        let mut body = Vec::new();
        // Of a body that ends early, what came is enough.
        while body.len() < REFUSAL_BYTES_MAX
            && let Ok(Some(Ok(frame))) = timeout(self.idle, stream.frame()).await
        {
            let Ok(bytes) = frame.into_data() else { continue };
            body.extend_from_slice(&bytes[..bytes.len().min(REFUSAL_BYTES_MAX - body.len())]);
        }
        let region = self.signer.region();
        Refusal { status, body: &body, its_time, our_time, bucket, region: &region }.fault()
    }

    async fn connect(&self, bucket: &str) -> Result<Connection, Fault> {
        let connecting = self.dialer.connect(&self.base(bucket)).await;
        connecting.map_err(|words| Fault::new(FaultKind::Unreachable, format!("S3 at {words}")))
    }

    /// The address that is called for a bucket.
    fn base(&self, bucket: &str) -> BaseUrl {
        if self.path_style {
            return self.endpoint.clone();
        }
        let (scheme, rest) = self.endpoint.as_str().split_once("://").expect("a checked address");
        parse_base_url(&format!("{scheme}://{bucket}.{rest}")).expect("a checked bucket's name")
    }

    fn url(&self, Place { bucket, key }: Place<'_>) -> Url {
        let (base, key) = (self.base(bucket), encoded(key));
        let text = match self.path_style {
            true if key.is_empty() => format!("{base}/{bucket}"),
            true => format!("{base}/{bucket}/{key}"),
            false => format!("{base}/{key}"),
        };
        Url::parse(&text).expect("a checked address and an encoded path")
    }

    fn headers(&self, method: &str, url: &Url, sha256: &str) -> HeaderMap {
        self.signer.headers(method, url, sha256, self.clock.now().wall)
    }
}

impl Fetched {
    /// The next bytes; none after the last of them.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            let frame = match timeout(self.idle, self.body.frame()).await {
                Err(_) => return Some(Err(Fault::silent(self.idle))),
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Err(Fault::of_connection(&error))),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(bytes) = frame.into_data() {
                return Some(Ok(bytes));
            }
        }
    }

    /// All of it, if it is no more than `most` bytes.
    pub async fn whole(mut self, most: u64) -> Result<Vec<u8>, Fault> {
        if self.bytes > most {
            let words = format!("the object is larger than {most} bytes");
            return Err(Fault::new(FaultKind::Object, words));
        }
        let mut body = Vec::with_capacity(self.bytes as usize);
        while let Some(bytes) = self.next().await {
            body.extend_from_slice(&bytes?);
        }
        Ok(body)
    }
}

/// Sends a body piece by piece; done when the last of them is on its way or nobody wants it any more.
async fn pump(
    source: Source,
    bytes: u64,
    mut pieces: Sender<Bytes, io::Error>,
    idle: Duration,
) -> Result<(), Fault> {
    let mut rest = bytes;
    let mut file = match &source {
        Source::Memory(_) => None,
        Source::File(path) => {
            let path = path.clone();
            Some(aside(move || File::open(path)).await?)
        }
    };
    while rest > 0 {
        let length = rest.min(PIECE_BYTES as u64) as usize;
        let piece = match (&source, file.take()) {
            (Source::Memory(whole), _) => {
                let start = (bytes - rest) as usize;
                whole.slice(start..start + length)
            }
            (Source::File(_), opened) => {
                let mut opened = opened.expect("it comes back with each piece");
                let (piece, opened) = aside(move || {
                    let mut piece = vec![0; length];
                    opened.read_exact(&mut piece)?;
                    Ok((piece, opened))
                })
                .await?;
                file = Some(opened);
                piece.into()
            }
        };
        rest -= length as u64;
        match timeout(idle, pieces.send_data(piece)).await {
            Ok(Ok(())) => {}
            // The answer says why.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Fault::silent(idle)),
        }
    }
    Ok(())
}

/// Reads where reading may block.
async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err(io::Error::other("the read was cut off")))
        .map_err(|error| Fault::of_file(&error))
}

async fn in_time<T>(idle: Duration, waits: impl Future<Output = T>) -> Result<T, Fault> {
    timeout(idle, waits).await.map_err(|_| Fault::silent(idle))
}

fn request(method: &'static str, url: &Url, headers: HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method.parse().expect("a method of HTTP");
    *request.uri_mut() = url.path().parse().expect("an encoded path");
    *request.headers_mut() = headers;
    request
}

fn length(answer: &Response<Incoming>) -> Result<u64, Fault> {
    let length = answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse().ok());
    length.ok_or_else(|| not_s3("it does not say how large an object is"))
}
