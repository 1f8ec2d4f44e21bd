//! Reading artifacts: what completions left and what workers returned, in one order, and what of it is on
//! its way to S3.
//!
//! Must stay true: both share one sequence, which orders the lists. Not here: pages (`page`), where the
//! content lies (`store::files`, `store::objects`).

use super::page::{Filling, Page};
use super::query::{Both, newest_of_both};
use super::{EngineError, Query};
use crate::domain::{ArtifactId, Outcome, Refusal, ReturnedFile, StoredObject, TaskId};
use crate::store::{Folder, ObjectRules, Upload, WaitingUpload};
use std::sync::Arc;
use tokio::sync::watch;

/// What a task brought forth.
#[derive(Clone, Debug, PartialEq)]
pub enum Artifact {
    /// Of a completion.
    Output(Outcome),
    File(ReturnedFile),
}

impl Artifact {
    pub fn id(&self) -> ArtifactId {
        match self {
            Artifact::Output(outcome) => outcome.artifact_id,
            Artifact::File(file) => file.artifact_id,
        }
    }

    /// Where it lies in S3.
    pub fn stored(&self) -> Option<&StoredObject> {
        match self {
            Artifact::Output(outcome) => outcome.stored.as_ref(),
            Artifact::File(file) => file.stored.as_ref(),
        }
    }
}

impl Query {
    /// Artifacts below the sequence `before`, newest first.
    pub fn artifacts(&self, before: u64, limit: usize) -> Result<Page<Artifact>, EngineError> {
        let hot = self.visible.index().outcomes_below(before, limit + 1);
        let both = self.both()?;
        let archived = both.archive.outcomes_below(before, limit + 1)?;
        let rows = newest_of_both(hot, archived, limit);
        let more = rows.len() > limit;
        let mut page = Filling::new(limit);
        for (seq, task) in rows {
            if page.is_full() {
                return Ok(page.page(true));
            }
            match artifact_at(&both, task, seq)? {
                Some(artifact) => page.add(seq, artifact),
                None => page.skip(seq),
            }
        }
        Ok(page.page(more))
    }

    /// Those of one task; none for a task that is not there.
    pub fn artifacts_of(
        &self,
        id: TaskId,
        before: u64,
        limit: usize,
    ) -> Result<Page<Artifact>, EngineError> {
        let both = self.both()?;
        let mut page = Filling::new(limit);
        let Some(found) = both.task(id.seq())?.filter(|found| found.task.id == id) else {
            return Ok(page.page(false));
        };
        let outcomes = found.task.ended.iter().filter_map(|ended| ended.outcome);
        let files = found.task.files.iter().map(|file| file.seq);
        let mut seqs: Vec<u64> = outcomes.chain(files).filter(|seq| *seq < before).collect();
        seqs.sort_unstable();
        for seq in seqs.into_iter().rev() {
            if page.is_full() {
                return Ok(page.page(true));
            }
            if let Some(artifact) = artifact_at(&both, id.seq(), seq)? {
                page.add(seq, artifact);
            }
        }
        Ok(page.page(false))
    }

    pub fn artifact(&self, id: ArtifactId) -> Result<Artifact, EngineError> {
        let known = self.visible.index().task_of_outcome(id.seq());
        let both = self.both()?;
        let task = match known {
            Some(task) => Some(task),
            None => both.archive.task_of_outcome(id.seq())?,
        };
        let artifact = match task {
            Some(task) => artifact_at(&both, task, id.seq())?,
            None => None,
        };
        artifact
            .filter(|artifact| artifact.id() == id)
            .ok_or(EngineError::Refused(Refusal::ArtifactNotFound))
    }

    /// The folder of returned files.
    pub fn files(&self) -> Option<Arc<Folder>> {
        self.store.files().cloned()
    }

    /// Says once what is to be done with artifacts in S3.
    pub fn keep_objects(&self, rules: ObjectRules) {
        self.store.keep_objects(rules);
    }

    /// Tells when there may be more to do in S3.
    pub fn objects_changed(&self) -> watch::Receiver<()> {
        self.visible.objects.subscribe()
    }

    /// Artifacts that wait to be uploaded, and objects that wait to be deleted.
    pub fn objects_waiting(&self) -> Result<(u64, u64), EngineError> {
        Ok(self.store.objects_waiting()?)
    }

    /// At most `limit` artifacts that wait to be uploaded, of sequences above `after`, oldest first.
    pub fn waiting_uploads(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WaitingUpload>, EngineError> {
        Ok(self.both()?.archive.waiting_uploads(after, limit)?)
    }

    /// What is to be uploaded; none when it is gone meanwhile.
    pub fn upload(&self, waiting: WaitingUpload) -> Result<Option<Upload>, EngineError> {
        Ok(self.both()?.archive.upload(waiting)?)
    }

    /// Notes where these artifacts lie, by their sequences, in one commit of the archive.
    pub fn mark_stored(&self, done: &[(u64, StoredObject)]) -> Result<(), EngineError> {
        Ok(self.store.mark_stored(done)?)
    }

    /// Objects, by bucket and key, that are to be deleted.
    pub fn waiting_deletions(&self, limit: usize) -> Result<Vec<(String, String)>, EngineError> {
        Ok(self.store.waiting_deletions(limit)?)
    }

    pub fn mark_deleted(&self, gone: &[(String, String)]) -> Result<(), EngineError> {
        Ok(self.store.mark_deleted(gone)?)
    }

    /// Removes what a crash left in the folder of files before this start.
    pub fn remove_strays(&self) -> Result<usize, EngineError> {
        Ok(self.store.remove_strays()?)
    }
}

fn artifact_at(both: &Both, task: u64, seq: u64) -> Result<Option<Artifact>, EngineError> {
    let Some(found) = both.task(task)? else { return Ok(None) };
    if found.task.files.iter().any(|file| file.seq == seq) {
        return Ok(both.file(task, seq)?.map(Artifact::File));
    }
    match found.task.ended.iter().find(|ended| ended.outcome == Some(seq)) {
        Some(ended) => Ok(both.outcome(&found, ended.lease.fence)?.map(Artifact::Output)),
        None => Ok(None),
    }
}
