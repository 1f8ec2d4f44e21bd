//! Artifacts as the contract shows them (`CONTRACT §2`), with what is new behind that.
//!
//! Must stay true: one that lies in S3 has the address that the system before gave it, and no content
//! here. Not here: the content (`api::artifacts`).

use crate::artifacts::Known;
use crate::domain::{ArtifactId, LeaseId, Outcome, StoredObject, TaskId, WorkerId};
use crate::engine::Artifact;
use serde::Serialize;
use serde_json::{Value, json};

/// How far artifacts are on their way to S3.
pub fn objects(known: &Known) -> Value {
    json!({
        "waiting": known.waiting,
        "to_delete": known.to_delete,
        "oldest_at": known.oldest_at,
        "last_error": known.last_error,
        "last_success": known.last_success,
        "connected": known.connected,
    })
}

#[derive(Serialize)]
pub struct ArtifactJson<'a> {
    id: ArtifactId,
    task_id: TaskId,
    job_id: Option<&'a str>,
    r#type: &'a str,
    created_at: i64,
    finalized: bool,
    url: Option<String>,
    entity_refs: [&'a str; 0],
    tags: &'a [String],
    content: Option<&'a str>,
    /// Of the content; none where there is none.
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(flatten)]
    file: Option<FileJson<'a>>,
}

/// What only a returned file has.
#[derive(Serialize)]
struct FileJson<'a> {
    name: &'a str,
    content_type: &'a str,
    worker_id: &'a WorkerId,
    lease_id: LeaseId,
}

/// As the system before wrote it.
fn url(stored: Option<&StoredObject>) -> Option<String> {
    stored.map(|object| format!("minio://{}/{}", object.bucket, object.key))
}

/// What a task brought forth.
pub fn artifact(artifact: &Artifact) -> impl Serialize + '_ {
    match artifact {
        Artifact::Output(outcome) => output(outcome),
        Artifact::File(file) => ArtifactJson {
            id: file.artifact_id,
            task_id: file.task_id,
            job_id: None,
            r#type: "FILE",
            created_at: file.created_at,
            finalized: true,
            url: url(file.stored.as_ref()),
            entity_refs: [],
            tags: &[],
            content: None,
            bytes: Some(file.bytes),
            sha256: Some(&file.sha256),
            file: Some(FileJson {
                name: &file.name,
                content_type: &file.content_type,
                worker_id: &file.worker_id,
                lease_id: file.lease_id,
            }),
        },
    }
}

/// The artifact of a completion; without content for an error, and when it lies in S3.
pub(super) fn output(outcome: &Outcome) -> ArtifactJson<'_> {
    let stored = outcome.stored.as_ref();
    let content = outcome.artifact_content();
    ArtifactJson {
        id: outcome.artifact_id,
        task_id: outcome.task_id,
        job_id: None,
        r#type: &outcome.artifact_type,
        created_at: outcome.completed_at,
        finalized: true,
        url: url(stored),
        entity_refs: [],
        tags: &outcome.artifact_tags,
        content: content.filter(|_| stored.is_none()),
        bytes: stored.map(|object| object.bytes).or(content.map(|text| text.len() as u64)),
        sha256: stored.map(|object| object.sha256.as_str()),
        file: None,
    }
}
