//! What waits for its way to S3, held against the archive.
//!
//! Must stay true: each row leads to content that is there and is not noted to lie in S3. Not here: the
//! content itself.

use super::findings::{Findings, InFile, ProblemKind};
use crate::domain::StoredObject;
use crate::store::StoreError;
use crate::store::schema::{PARTS, UPLOADS};
use redb::ReadTransaction;
use serde::Deserialize;

#[derive(Deserialize)]
struct Facts {
    stored: Option<StoredObject>,
}

pub fn check(findings: &mut Findings, archive: &ReadTransaction) -> Result<(), StoreError> {
    let parts = archive.open_table(PARTS)?;
    for row in archive.open_table(UPLOADS)?.range::<u64>(..)? {
        let (artifact, place) = row?;
        let (artifact, (task, part)) = (artifact.value(), place.value());
        let stored = match parts.get((task, part))? {
            // One that cannot be read was told of already.
            Some(bytes) => serde_json::from_slice::<Facts>(bytes.value()).map(|facts| facts.stored),
            None => {
                let text = format!("artifact number {artifact} waits for S3, but is not there");
                findings.problem(ProblemKind::Orphan, InFile::Archive, text);
                continue;
            }
        };
        if let Ok(Some(_)) = stored {
            let text = format!("artifact number {artifact} waits for S3, where it is already");
            findings.problem(ProblemKind::Contradiction, InFile::Archive, text);
        }
    }
    Ok(())
}
