//! S3 from the settings to the duty.
//!
//! Must stay true: without its settings nothing of it runs. Not here: what is said of the settings
//! (`config`).

use crate::artifacts::Objects;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{Engine, ObjectRules};
use crate::outgoing::Dialer;
use std::sync::Arc;

/// Tells the store what is to be done with artifacts, before any of them moves.
pub fn open(
    config: &Config,
    engine: &Engine,
    dialer: Dialer,
    clock: Arc<dyn Clock>,
) -> Option<Arc<Objects>> {
    let minio = config.minio.as_ref()?;
    engine.query().keep_objects(ObjectRules {
        uploads: true,
        keeps_inline: minio.keeps_inline,
        deletes: minio.retention_removes,
    });
    Some(Arc::new(Objects::new(minio, dialer, clock)))
}
