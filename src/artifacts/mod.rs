//! Artifacts in S3: objects that are put, read and deleted there, and the record that Membridge's scripts
//! keep there of who leads a project.
//!
//! Must stay true: no key and no signature stands in a text of ours (P10). Not here: when an artifact goes
//! there (`background::uploads`), what our store knows of it (`store`).

mod leadership;
mod progress;
mod s3;
mod signing;
mod words;

pub use leadership::{Leadership, Lease, Reading};
pub use progress::{Known, Progress};
pub use s3::{Content, Fetched, Place, S3, Source};
pub use words::{Fault, FaultKind};

use crate::clock::Clock;
use crate::config::Minio;
use crate::outgoing::Dialer;
use std::sync::Arc;

/// S3 as this server uses it.
pub struct Objects {
    pub s3: Arc<S3>,
    /// Where new artifacts go.
    pub bucket: String,
    pub progress: Progress,
    pub leadership: Leadership,
}

impl Objects {
    pub fn new(minio: &Minio, dialer: Dialer, clock: Arc<dyn Clock>) -> Objects {
        let s3 = Arc::new(S3::new(minio, dialer, clock.clone()));
        let leadership = Leadership::new(s3.clone(), minio.membridge_bucket.clone(), clock);
        Objects { s3, bucket: minio.bucket.clone(), progress: Progress::default(), leadership }
    }
}
