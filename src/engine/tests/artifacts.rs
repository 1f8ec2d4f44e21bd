//! Files that workers return, and the way of contents to S3 as far as the store knows it.
//!
//! Not here: S3, the folder of files, HTTP.

use super::*;
use crate::domain::{FileOfTask, NewFile, ReturnedFile, StoredObject};
use crate::engine::{Artifact, ObjectRules, Retention, UploadSource, WaitingUpload};

const TO_S3: ObjectRules = ObjectRules { uploads: true, keeps_inline: false, deletes: true };

impl World {
    fn add_file(&mut self, task: TaskId, lease: LeaseId) -> Result<ReturnedFile, EngineError> {
        let claim = LeaseClaim::Named(lease);
        let file = Box::new(NewFile {
            name: "plan 1.md".into(),
            content_type: "text/markdown".into(),
            bytes: 5,
            sha256: "ab".repeat(32),
            on_disk: "1-ab-cd".into(),
        });
        self.ask(|reply| Command::AddFile { task, claim, file, reply })
    }

    fn uploads(&self) -> Vec<WaitingUpload> {
        self.query.waiting_uploads(0, 100).expect("the disk works")
    }

    fn remove_all(&mut self) {
        self.pass_ms(31 * 86_400_000);
        let now = self.clock.now().mono;
        let due = self.query.due(&Retention::days(30), now, 100).expect("the disk works");
        let tasks = self.ask(|reply| Command::BeginRemoval { due, reply }).expect("possible");
        self.query.remove_archived(&tasks).expect("the disk works");
        self.ask(|reply| Command::Removed { tasks, reply }).expect("possible");
    }
}

fn object(key: &str) -> StoredObject {
    StoredObject { bucket: "b".into(), key: key.into(), bytes: 2, sha256: "cd".repeat(32) }
}

/// A task under its lease.
fn held() -> (World, TaskId, LeaseId) {
    let mut world = World::new();
    world.store.keep_objects(TO_S3);
    world.register("w", 8);
    let task = world.create();
    let lease = world.leased(task);
    (world, task, lease)
}

#[test]
fn a_file_survives_a_restart_and_the_move_and_stands_among_the_artifacts() {
    let (mut world, task, lease) = held();
    let file = world.add_file(task, lease).expect("held");
    let done = world.complete(task, lease).expect("held");
    let listed = |world: &World| {
        let all = world.query.artifacts(u64::MAX, 9).unwrap().rows;
        assert_eq!(world.query.artifacts_of(task, u64::MAX, 9).unwrap().rows, all);
        all
    };
    let expected = [Artifact::Output(done.outcome), Artifact::File(file.clone())];
    assert_eq!(listed(&world), expected);
    let mut world = world.restart();
    assert_eq!(listed(&world), expected);
    let copied = world.copy_finished();
    assert_eq!(listed(&world), expected, "in both files");
    world.ask(|reply| Command::Archived { copied, reply }).unwrap();
    world.assert_healthy();
    assert_eq!(listed(&world), expected, "in the archive");
    assert_eq!(world.query.artifact(file.artifact_id), Ok(Artifact::File(file)));
    assert!(world.trail().contains(&"artifact_added".to_owned()));
}

#[test]
fn only_the_holder_adds_files_and_that_is_a_sign_of_life_p3_p4() {
    let (mut world, task, lease) = held();
    let ttl_ms = 300_000;
    world.pass_ms(ttl_ms - 1);
    world.add_file(task, lease).expect("held");
    world.pass_ms(ttl_ms - 1);
    assert_eq!(world.status(task), TaskStatus::Leased, "it has its full time again");
    world.pass_ms(2);
    assert_eq!(world.status(task), TaskStatus::Queued);
    assert_eq!(world.add_file(task, lease), refused(Refusal::LeaseLost));
    world.register("w", 8);
    let second = world.leased(task);
    assert_eq!(world.add_file(task, lease), refused(Refusal::LeaseLost));
    world.add_file(task, second).expect("held");
    assert_eq!(world.query.task(task).unwrap().task.files.len(), 2);
    world.assert_healthy();
}

#[test]
fn files_of_a_task_that_comes_back_stay_in_the_archive_and_are_found_there() {
    let (mut world, task, lease) = held();
    let first = world.add_file(task, lease).expect("held");
    world.fail(task, lease).expect("held");
    world.move_finished();
    world.requeue(task).expect("failed");
    world.assert_healthy();
    let lease = world.leased(task);
    let second = world.add_file(task, lease).expect("held");
    world.complete(task, lease).expect("held");
    let world_files = |world: &World| {
        let rows = world.query.artifacts_of(task, u64::MAX, 9).unwrap().rows;
        let files = rows.into_iter().filter_map(|artifact| match artifact {
            Artifact::File(file) => Some(file),
            Artifact::Output(_) => None,
        });
        files.collect::<Vec<_>>()
    };
    assert_eq!(world_files(&world), [second.clone(), first.clone()]);
    world.move_finished();
    world.assert_healthy();
    assert_eq!(world_files(&world), [second, first]);
}

#[test]
fn what_is_to_go_to_s3_waits_once_for_each_content_and_is_noted_in_one_commit() {
    let (mut world, task, lease) = held();
    let file = world.add_file(task, lease).expect("held");
    let done = world.complete(task, lease).expect("held").outcome;
    let failed = world.create();
    let lease = world.leased(failed);
    world.fail(failed, lease).expect("held");
    assert_eq!(world.uploads(), [], "only what is in the archive is uploaded");
    world.copy_finished();
    world.copy_finished();
    let waiting = world.uploads();
    assert_eq!(waiting.len(), 2, "an error has no content: {waiting:?}");
    assert_eq!(world.query.objects_waiting(), Ok((2, 0)));
    let upload = world.query.upload(waiting[0]).unwrap().expect("it is there");
    assert_eq!(upload.key, format!("artifacts/{task}/{}-plan_1.md", file.artifact_id));
    assert!(matches!(upload.source, UploadSource::File { bytes: 5, .. }), "{upload:?}");
    let upload = world.query.upload(waiting[1]).unwrap().expect("it is there");
    assert_eq!(upload.key, format!("artifacts/{task}/{}.json", done.completed_at));
    assert_eq!(upload.source, UploadSource::Text(done.output.clone().expect("a success")));

    world.query.mark_stored(&[(waiting[1].artifact, object("o"))]).unwrap();
    assert_eq!(world.uploads(), waiting[..1]);
    world.move_finished();
    world.assert_healthy();
    let outcome = world.query.latest_outcome(task).unwrap();
    assert_eq!((outcome.output, outcome.stored), (None, Some(object("o"))));
    let mut world = world.restart();
    world.store.keep_objects(TO_S3);
    world.query.mark_stored(&[(waiting[0].artifact, object("f"))]).unwrap();
    let Ok(Artifact::File(stored)) = world.query.artifact(file.artifact_id) else {
        panic!("it is a file");
    };
    assert_eq!((stored.on_disk, stored.stored), (None, Some(object("f"))));
    assert_eq!(world.uploads(), []);
    world.assert_healthy();

    world.remove_all();
    world.assert_healthy();
    let gone: Vec<_> = ["f", "o"].map(|key| ("b".to_owned(), key.to_owned())).to_vec();
    assert_eq!(world.query.waiting_deletions(9).unwrap(), gone);
    world.query.mark_deleted(&gone).unwrap();
    assert_eq!(world.query.objects_waiting(), Ok((0, 0)));
}

#[test]
fn a_content_that_is_stored_is_not_copied_over_by_a_mover_that_repeats_itself() {
    let (mut world, task, lease) = held();
    world.complete(task, lease).expect("held");
    world.copy_finished();
    let waiting = world.uploads();
    world.query.mark_stored(&[(waiting[0].artifact, object("o"))]).unwrap();
    let mut world = world.restart();
    world.store.keep_objects(TO_S3);
    world.move_finished();
    world.assert_healthy();
    assert_eq!(world.uploads(), []);
    assert_eq!(world.query.latest_outcome(task).unwrap().stored, Some(object("o")));
}

#[test]
fn an_artifact_whose_task_went_while_it_was_uploaded_is_deleted_again() {
    let (mut world, task, lease) = held();
    world.complete(task, lease).expect("held");
    world.move_finished();
    let waiting = world.uploads();
    world.remove_all();
    assert_eq!(world.uploads(), []);
    assert_eq!(world.query.upload(waiting[0]), Ok(None));
    world.query.mark_stored(&[(waiting[0].artifact, object("o"))]).unwrap();
    assert_eq!(world.query.waiting_deletions(9).unwrap(), [("b".into(), "o".into())]);
    world.assert_healthy();
}

#[test]
fn without_s3_nothing_waits_for_it_and_a_created_task_is_answered_without_files() {
    let mut world = World::new();
    world.register("w", 8);
    let task = world.create();
    let lease = world.leased(task);
    world.add_file(task, lease).expect("held");
    let files = world.query.task(task).unwrap().task.files;
    assert!(matches!(files[..], [FileOfTask { bytes: 5, .. }]), "{files:?}");
    world.complete(task, lease).expect("held");
    world.move_finished();
    assert_eq!(world.query.objects_waiting(), Ok((0, 0)));
    world.remove_all();
    world.assert_healthy();
    assert_eq!(world.query.objects_waiting(), Ok((0, 0)));
}
