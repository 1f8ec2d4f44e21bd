//! Artifacts on their way to S3, and objects there whose tasks are gone.
//!
//! A row of `UPLOADS` is written with the content, in the archive's commit, and goes in the commit that
//! notes where the content lies: whatever a crash leaves is uploaded again, under the same key. Must stay
//! true: an inline copy goes only in that commit; what retention removes is noted in its own commit. Not
//! here: S3 (`artifacts`), when this is done (`background::uploads`).

use super::archive::Archive;
use super::schema::{DELETIONS, FILES, PART_SPEC, PARTS, UPLOADS};
use super::{Store, StoreError};
use crate::domain::{ArtifactId, CompletionStatus, Outcome, ReturnedFile, StoredObject};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, Table};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What is done with artifacts in S3; the default is that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectRules {
    /// New artifacts go there.
    pub uploads: bool,
    /// Their content stays here as well.
    pub keeps_inline: bool,
    /// Objects go with their tasks.
    pub deletes: bool,
}

/// A row of `UPLOADS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingUpload {
    /// The artifact's sequence.
    pub artifact: u64,
    pub task: u64,
    pub part: u64,
}

/// What is to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub key: String,
    pub content_type: String,
    pub since: i64,
    pub source: UploadSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadSource {
    Text(String),
    /// In the folder of files.
    File {
        on_disk: String,
        bytes: u64,
        sha256: String,
    },
}

/// What retention must know of a part with content, without reading the content.
#[derive(Deserialize)]
struct ContentFacts {
    artifact_id: ArtifactId,
    #[serde(default)]
    on_disk: Option<String>,
    #[serde(default)]
    stored: Option<StoredObject>,
}

/// The same of an outcome, to see whether there is any.
#[derive(Deserialize)]
struct OutputFacts<'a> {
    artifact_id: ArtifactId,
    status: CompletionStatus,
    #[serde(borrow)]
    output: Option<&'a serde_json::value::RawValue>,
    stored: Option<IgnoredAny>,
}

impl Store {
    /// Says once what is to be done with artifacts; before that nothing is.
    pub fn keep_objects(&self, rules: ObjectRules) {
        // A second time changes nothing: the rules are those of this process.
        let _ = self.objects.set(rules);
    }

    pub(super) fn object_rules(&self) -> ObjectRules {
        self.objects.get().copied().unwrap_or_default()
    }

    /// The artifact whose content is in this part, if it is to go to S3.
    pub(super) fn goes_to_s3(&self, bytes: &[u8], part: u64) -> Result<Option<u64>, StoreError> {
        if !self.object_rules().uploads || part <= PART_SPEC {
            return Ok(None);
        }
        if part >= FILES {
            let file: ContentFacts = serde_json::from_slice(bytes)?;
            return Ok(file.stored.is_none().then_some(file.artifact_id.seq()));
        }
        let outcome: OutputFacts<'_> = serde_json::from_slice(bytes)?;
        let has_content = outcome.status == CompletionStatus::Success
            && outcome.output.is_some_and(|json| !matches!(json.get(), "null" | "\"\""));
        Ok((has_content && outcome.stored.is_none()).then_some(outcome.artifact_id.seq()))
    }

    /// Notes in one durable commit where these artifacts lie now, after which their copies here go.
    /// What retention has removed meanwhile is noted for deletion.
    pub fn mark_stored(&self, done: &[(u64, StoredObject)]) -> Result<(), StoreError> {
        let rules = self.object_rules();
        let mut files = Vec::new();
        let archive = self.archive.write()?;
        let mut txn = archive.begin_write()?;
        txn.set_quick_repair(true);
        {
            let mut uploads = txn.open_table(UPLOADS)?;
            let mut parts = txn.open_table(PARTS)?;
            let mut deletions = txn.open_table(DELETIONS)?;
            for (artifact, object) in done {
                let place = uploads.remove(artifact)?.map(|row| row.value());
                let found = place.and_then(|place| parts.get(place).transpose()).transpose()?;
                let (Some((task, part)), Some(bytes)) = (place, found) else {
                    if rules.deletes {
                        deletions.insert((object.bucket.as_str(), object.key.as_str()), ())?;
                    }
                    continue;
                };
                let json = if part >= FILES {
                    let mut file: ReturnedFile = serde_json::from_slice(bytes.value())?;
                    file.stored = Some(object.clone());
                    if !rules.keeps_inline {
                        files.extend(file.on_disk.take());
                    }
                    serde_json::to_vec(&file)?
                } else {
                    let mut outcome: Outcome = serde_json::from_slice(bytes.value())?;
                    outcome.stored = Some(object.clone());
                    if !rules.keeps_inline {
                        outcome.output = None;
                    }
                    serde_json::to_vec(&outcome)?
                };
                drop(bytes);
                parts.insert((task, part), json.as_slice())?;
            }
        }
        txn.commit()?;
        self.remove_files(&files);
        Ok(())
    }

    /// Notes in one durable commit that these objects, by bucket and key, are gone.
    pub fn mark_deleted(&self, gone: &[(String, String)]) -> Result<(), StoreError> {
        let archive = self.archive.write()?;
        let mut txn = archive.begin_write()?;
        txn.set_quick_repair(true);
        {
            let mut deletions = txn.open_table(DELETIONS)?;
            for (bucket, key) in gone {
                deletions.remove((bucket.as_str(), key.as_str()))?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Artifacts that wait to be uploaded, and objects that wait to be deleted.
    pub fn objects_waiting(&self) -> Result<(u64, u64), StoreError> {
        let txn = self.archive.read()?.begin_read()?;
        Ok((txn.open_table(UPLOADS)?.len()?, txn.open_table(DELETIONS)?.len()?))
    }

    /// At most `limit` objects that are to be deleted, by bucket and key.
    pub fn waiting_deletions(&self, limit: usize) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self.archive.read()?.begin_read()?.open_table(DELETIONS)?;
        let rows = rows.range::<(&str, &str)>(..)?.take(limit);
        let texts = rows.map(|row| {
            let (key, ()) = (row?.0, ());
            let (bucket, key) = key.value();
            Ok((bucket.to_owned(), key.to_owned()))
        });
        texts.collect()
    }
}

/// Tables that know of content in S3, while retention removes a task.
pub(super) struct Contents<'t> {
    uploads: Table<'t, u64, (u64, u64)>,
    deletions: Table<'t, (&'static str, &'static str), ()>,
    deletes: bool,
    /// Files that may leave their folder after the commit.
    pub files: Vec<String>,
}

impl<'t> Contents<'t> {
    pub fn open(txn: &'t redb::WriteTransaction, rules: ObjectRules) -> Result<Self, StoreError> {
        Ok(Contents {
            uploads: txn.open_table(UPLOADS)?,
            deletions: txn.open_table(DELETIONS)?,
            deletes: rules.deletes,
            files: Vec::new(),
        })
    }

    /// Takes note of a part that is removed.
    pub fn take_out(&mut self, part: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if part <= PART_SPEC {
            return Ok(());
        }
        let facts: ContentFacts = serde_json::from_slice(bytes)?;
        self.uploads.remove(facts.artifact_id.seq())?;
        self.files.extend(facts.on_disk);
        if let Some(object) = facts.stored.filter(|_| self.deletes) {
            self.deletions.insert((object.bucket.as_str(), object.key.as_str()), ())?;
        }
        Ok(())
    }
}

impl Archive {
    /// Artifacts that wait to be uploaded, those after the sequence `after` first to last.
    pub fn waiting_uploads(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WaitingUpload>, StoreError> {
        let rows = self.txn.open_table(UPLOADS)?.range(after + 1..)?;
        let rows = rows.take(limit).map(|row| {
            let (artifact, place) = row?;
            let (task, part) = place.value();
            Ok(WaitingUpload { artifact: artifact.value(), task, part })
        });
        rows.collect()
    }

    /// What is to be uploaded for this row; none when it is gone.
    pub fn upload(&self, waiting: WaitingUpload) -> Result<Option<Upload>, StoreError> {
        let WaitingUpload { task, part, .. } = waiting;
        if self.is_gone(task) {
            return Ok(None);
        }
        if part >= FILES {
            let file: Option<ReturnedFile> = self.part(task, part)?;
            return Ok(file.and_then(|file| {
                Some(Upload {
                    key: file_key(&file),
                    content_type: file.content_type,
                    since: file.created_at,
                    source: UploadSource::File {
                        on_disk: file.on_disk?,
                        bytes: file.bytes,
                        sha256: file.sha256,
                    },
                })
            }));
        }
        let outcome: Option<Outcome> = self.part(task, part)?;
        Ok(outcome.and_then(|outcome| {
            Some(Upload {
                // As the system before named it; a task has one output at the most.
                key: format!("artifacts/{}/{}.json", outcome.task_id, outcome.completed_at),
                content_type: "application/json".into(),
                since: outcome.completed_at,
                source: UploadSource::Text(outcome.output?),
            })
        }))
    }
}

/// The key keeps of the name what no part of a path or an address could mistake.
fn file_key(file: &ReturnedFile) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = file.name.chars().map(safe).take(100).collect();
    format!("artifacts/{}/{}-{name}", file.task_id, file.artifact_id)
}
