//! Files that a worker returns beside a task's output, and where artifacts lie in S3.
//!
//! Must stay true: only who holds the lease may add one (P3); a task has at most `FILES_PER_TASK` of
//! them with `FILE_BYTES_PER_TASK` in all (P9). Not here: the bytes (`artifacts::files`), the output of
//! a completion (`ending`).

use super::transition::{Change, LeaseClaim, believe, touched};
use super::{ArtifactId, Audit, Entity, EventKind, LeaseId, Refusal, Task, TaskId, WorkerId};
use serde::{Deserialize, Serialize};

pub const FILES_PER_TASK: usize = 32;
pub const FILE_BYTES_PER_TASK: u64 = 256 << 20;

/// Where an artifact lies in S3, and what it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    pub bucket: String,
    pub key: String,
    pub bytes: u64,
    /// Of the content, 64 small hexadecimal digits.
    pub sha256: String,
}

/// A file that has arrived and is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    pub name: String,
    pub content_type: String,
    pub bytes: u64,
    pub sha256: String,
    /// Its name in the folder of files.
    pub on_disk: String,
}

/// A file that the holder of a lease returned; stored once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedFile {
    pub artifact_id: ArtifactId,
    pub task_id: TaskId,
    pub lease_id: LeaseId,
    pub worker_id: WorkerId,
    pub name: String,
    pub content_type: String,
    pub bytes: u64,
    pub sha256: String,
    pub created_at: i64,
    /// Its name in the folder of files, as long as it lies there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredObject>,
}

/// What a task's record knows of a file of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOfTask {
    /// The sequence of its artifact.
    pub seq: u64,
    pub bytes: u64,
}

/// Takes a file from the holder of the lease.
pub fn add_file(
    task: &Task,
    claim: LeaseClaim,
    new: NewFile,
    artifact_id: ArtifactId,
    now: i64,
) -> Result<(Change, ReturnedFile), Refusal> {
    let active = match (&task.lease, claim) {
        (Some(active), claim) => believe(task, active, claim).map(|()| active)?,
        (None, LeaseClaim::Unnamed) => return Err(Refusal::NotLeased(task.status)),
        (None, LeaseClaim::Named(_) | LeaseClaim::Unknown) => return Err(Refusal::LeaseLost),
    };
    if task.files.len() >= FILES_PER_TASK {
        return Err(Refusal::TooManyFiles);
    }
    let held: u64 = task.files.iter().map(|file| file.bytes).sum();
    if held.saturating_add(new.bytes) > FILE_BYTES_PER_TASK {
        return Err(Refusal::FilesTooLarge);
    }
    let audit = Audit {
        entity: Entity::Task,
        entity_id: task.id.to_string(),
        actor: active.worker_id.to_string(),
        detail: format!("File {}, {} bytes, artifact: {artifact_id}", new.name, new.bytes),
    };
    let file = ReturnedFile {
        artifact_id,
        task_id: task.id,
        lease_id: active.id,
        worker_id: active.worker_id.clone(),
        name: new.name,
        content_type: new.content_type,
        bytes: new.bytes,
        sha256: new.sha256,
        created_at: now,
        on_disk: Some(new.on_disk),
        stored: None,
    };
    let mut task = touched(task, now);
    // A sign of life of the holder, like a heartbeat.
    task.lease.iter_mut().for_each(|lease| lease.renew(now));
    task.files.push(FileOfTask { seq: artifact_id.seq(), bytes: file.bytes });
    Ok((Change { task, kind: EventKind::ArtifactAdded, audit: Some(audit) }, file))
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::queued_task;
    use super::super::{Completed, CompletionStatus, ResultId, When, complete, grant};
    use super::*;

    fn new(bytes: u64) -> NewFile {
        NewFile {
            name: "plan.md".into(),
            content_type: "text/markdown".into(),
            bytes,
            sha256: "0".repeat(64),
            on_disk: "1-0-0".into(),
        }
    }

    fn leased() -> (Task, LeaseId) {
        let id = LeaseId::new(1, 7);
        let worker = WorkerId("w".into());
        (grant(&queued_task(), &worker, id, None, 10).unwrap().task, id)
    }

    #[test]
    fn only_the_holder_adds_files_and_only_while_it_holds() {
        let (task, id) = leased();
        let artifact = ArtifactId::new(3, 1);
        let (change, file) = add_file(&task, LeaseClaim::Named(id), new(5), artifact, 20).unwrap();
        assert_eq!((file.lease_id, file.bytes, file.created_at), (id, 5, 20));
        assert_eq!(change.task.files, [FileOfTask { seq: 3, bytes: 5 }]);
        assert_eq!((change.task.status, change.task.lease.is_some()), (task.status, true));

        let late = LeaseClaim::Named(LeaseId::new(9, 9));
        assert_eq!(add_file(&task, late, new(5), artifact, 20).unwrap_err(), Refusal::LeaseLost);
        let queued = add_file(&queued_task(), LeaseClaim::Unnamed, new(5), artifact, 20);
        assert!(matches!(queued, Err(Refusal::NotLeased(_))), "{queued:?}");
        let done = Completed {
            status: CompletionStatus::Success,
            output: None,
            error_message: None,
            code: None,
            metrics: Default::default(),
            artifact_type: "T".into(),
            artifact_tags: Vec::new(),
        };
        let when = When { wall: 30, age_ms: 0, chance: 0 };
        let ended = complete(
            &change.task,
            LeaseClaim::Named(id),
            Some(done),
            artifact,
            ResultId::new(4, 1),
            when,
        );
        let super::super::Completion::First(ended, _) = ended.unwrap() else {
            panic!("it is the first completion");
        };
        let after = add_file(&ended.task, LeaseClaim::Named(id), new(5), artifact, 40);
        assert_eq!(after.unwrap_err(), Refusal::LeaseLost, "and none after the end");
        assert_eq!(ended.task.files.len(), 1, "the end keeps them");
    }

    #[test]
    fn a_task_has_room_for_so_many_files_and_bytes() {
        let (mut task, id) = leased();
        let add = |task: &Task, bytes| {
            let seq = 3 + task.files.len() as u64;
            add_file(task, LeaseClaim::Named(id), new(bytes), ArtifactId::new(seq, 1), 20)
        };
        for _ in 0..FILES_PER_TASK {
            task = add(&task, 1).unwrap().0.task;
        }
        assert_eq!(add(&task, 1).unwrap_err(), Refusal::TooManyFiles);
        let (task, _) = leased();
        let task = add(&task, FILE_BYTES_PER_TASK - 1).unwrap().0.task;
        assert!(add(&task, 1).is_ok());
        assert_eq!(add(&task, 2).unwrap_err(), Refusal::FilesTooLarge);
    }
}
