//! Files of an older format, brought to the present one.
//!
//! Format 2 gives each archived task a row in `TASKS_BY_AGE`, format 3 gives the hot file its tables of
//! idempotency keys, format 4 the archive those of S3. Works on open databases, so that a migration can be cut off at every point. Must stay true: steps are bounded and each is one commit
//! that also says how far it came, so a migration that was cut off goes on where it was; the format
//! is raised in the commit of the last step, and the hot file's after the archive's. Not here: the
//! copies that are kept before (`keep`).

use super::StoreError;
use super::open::stored_format;
use super::schema::{
    DELETIONS, FORMAT, KEYS, KEYS_BY_TASK, META, META_FORMAT, META_MIGRATED, TASKS_BY_AGE,
    TASKS_BY_STATUS, UPLOADS,
};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

/// Rows of one step: some tens of milliseconds of work.
const ROWS_AT_ONCE: usize = 20_000;

/// Brings both files from any older format to the present one. `progress` hears the tasks that are
/// done and how many there are, after each step.
pub fn migrate(
    hot: &Database,
    archive: &Database,
    progress: impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    migrate_in_steps(hot, archive, ROWS_AT_ONCE, progress)
}

/// The same with steps of another size, for who wants to cut off many small ones.
pub fn migrate_in_steps(
    hot: &Database,
    archive: &Database,
    rows_at_once: usize,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    if stored_format(archive)? == Some(1) {
        let all = archive.begin_read()?.open_table(TASKS_BY_STATUS)?.len()?;
        let mut done = 0;
        while let Some(rows) = give_ages(archive, rows_at_once)? {
            done += rows;
            progress(done.min(all), all);
        }
    }
    if stored_format(archive)? != Some(FORMAT) {
        let mut txn = archive.begin_write()?;
        txn.set_quick_repair(true);
        txn.open_table(UPLOADS)?;
        txn.open_table(DELETIONS)?;
        raise_format(&txn)?;
        txn.commit()?;
    }
    if stored_format(hot)? != Some(FORMAT) {
        let mut txn = hot.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.open_table(KEYS)?;
        txn.open_table(KEYS_BY_TASK)?;
        raise_format(&txn)?;
        txn.commit()?;
    }
    Ok(())
}

fn raise_format(txn: &WriteTransaction) -> Result<(), StoreError> {
    txn.open_table(META)?.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
    Ok(())
}

/// Whether a migration of this file has begun, after which it is no file to keep a copy of.
pub fn has_begun(archive: &Database) -> Result<bool, StoreError> {
    Ok(archive.begin_read()?.open_table(META)?.get(META_MIGRATED)?.is_some())
}

/// One step: rows for the next tasks, all at the age 0 of a store that has not counted it so far.
/// None when that was the last step.
fn give_ages(archive: &Database, rows_at_once: usize) -> Result<Option<u64>, StoreError> {
    let mut txn = archive.begin_write()?;
    txn.set_quick_repair(true);
    let mut done = 0;
    {
        let mut meta = txn.open_table(META)?;
        let by_status = txn.open_table(TASKS_BY_STATUS)?;
        let mut by_age = txn.open_table(TASKS_BY_AGE)?;
        let last: Option<(u8, u64)> = match meta.get(META_MIGRATED)? {
            Some(bytes) => Some(serde_json::from_slice(bytes.value())?),
            None => None,
        };
        let from = last.map_or((0, 0), |(status, seq)| (status, seq + 1));
        let mut last = None;
        for row in by_status.range(from..)?.take(rows_at_once) {
            let (status, seq) = row?.0.value();
            by_age.insert((status, 0, seq), ())?;
            last = Some((status, seq));
            done += 1;
        }
        match last {
            Some(last) => {
                meta.insert(META_MIGRATED, serde_json::to_vec(&last)?.as_slice())?;
            }
            None => {
                meta.remove(META_MIGRATED)?;
                meta.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
                txn.open_table(UPLOADS)?;
                txn.open_table(DELETIONS)?;
            }
        }
    }
    txn.commit()?;
    Ok((done > 0).then_some(done))
}

#[cfg(test)]
pub mod tests {
    use super::super::schema::{Settings, TASKS};
    use super::super::{HotChanges, Store};
    use super::*;
    use crate::domain::Task;
    use redb::ReadOnlyDatabase;
    use std::path::Path;

    impl Store {
        /// Makes files of format 3 out of these, as long as no file was returned and nothing goes to S3.
        pub fn back_to_format_3(&self) {
            self.set_format(b"3");
            let archive = self.archive.write().unwrap();
            let txn = archive.begin_write().unwrap();
            assert!(txn.delete_table(UPLOADS).unwrap() && txn.delete_table(DELETIONS).unwrap());
            txn.commit().unwrap();
        }

        /// Makes files of format 2 out of these, as long as no task was created under a key.
        pub fn back_to_format_2(&self) {
            self.back_to_format_3();
            self.set_format(b"2");
            let hot = self.hot.write().unwrap();
            let txn = hot.begin_write().unwrap();
            assert!(txn.delete_table(KEYS).unwrap() && txn.delete_table(KEYS_BY_TASK).unwrap());
            txn.commit().unwrap();
        }

        /// Makes files of format 1 out of these, as long as the store's age is 0 besides.
        pub fn back_to_format_1(&self) {
            self.back_to_format_2();
            self.set_format(b"1");
            let archive = self.archive.write().unwrap();
            let txn = archive.begin_write().unwrap();
            txn.delete_table(TASKS_BY_AGE).unwrap();
            let mut tasks = txn.open_table(TASKS).unwrap();
            let records: Vec<(u64, Task)> = tasks
                .iter()
                .unwrap()
                .map(|row| row.unwrap())
                .map(|(seq, bytes)| (seq.value(), serde_json::from_slice(bytes.value()).unwrap()))
                .collect();
            for (seq, task) in records {
                tasks.insert(seq, serde_json::to_vec(&task).unwrap().as_slice()).unwrap();
            }
            drop(tasks);
            txn.commit().unwrap();
        }

        fn set_format(&self, format: &[u8]) {
            for slot in [&self.hot, &self.archive] {
                let db = slot.write().unwrap();
                let txn = db.begin_write().unwrap();
                txn.open_table(META).unwrap().insert(META_FORMAT, format).unwrap();
                txn.commit().unwrap();
            }
        }
    }

    const ROWS: [(u8, u64); 7] = [(3, 1), (3, 2), (3, 9), (4, 3), (4, 4), (5, 7), (6, 8)];

    /// A data directory of this format with rows of tasks in its archive and settings in its hot file.
    fn old_store(dir: &Path, format: u64) {
        let store = Store::open(dir).unwrap().0;
        let archive = store.archive.write().unwrap();
        let txn = archive.begin_write().unwrap();
        for (status, seq) in ROWS {
            txn.open_table(TASKS_BY_STATUS).unwrap().insert((status, seq), ()).unwrap();
            txn.open_table(TASKS_BY_AGE).unwrap().insert((status, 0, seq), ()).unwrap();
        }
        txn.commit().unwrap();
        drop(archive);
        let settings = Settings { membridge_admin_key: Some("k".into()), ..Settings::default() };
        store.commit(&HotChanges { settings: Some(settings), ..HotChanges::default() }).unwrap();
        match format {
            1 => store.back_to_format_1(),
            2 => store.back_to_format_2(),
            _ => store.back_to_format_3(),
        }
    }

    #[track_caller]
    fn is_migrated(store: &Store) {
        let (hot, archive) = (store.hot.read().unwrap(), store.archive.read().unwrap());
        let by_age = archive.begin_read().unwrap().open_table(TASKS_BY_AGE).unwrap();
        let rows: Vec<_> = by_age.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
        assert_eq!(rows, ROWS.map(|(status, seq)| (status, 0, seq)));
        assert_eq!(stored_format(&*archive).unwrap(), Some(FORMAT));
        assert_eq!(stored_format(&*hot).unwrap(), Some(FORMAT));
        assert!(!has_begun(&archive).unwrap());
        assert_eq!(store.objects_waiting().unwrap(), (0, 0));
        assert_eq!(store.hot().unwrap().keys_held().unwrap(), 0);
        let settings = store.hot().unwrap().settings().unwrap();
        assert_eq!(settings.membridge_admin_key.as_deref(), Some("k"));
    }

    #[test]
    fn files_of_an_older_format_are_migrated_once_and_copies_are_kept() {
        for format in 1..FORMAT {
            let dir = tempfile::tempdir().unwrap();
            old_store(dir.path(), format);
            let (store, opened) = Store::open(dir.path()).unwrap();
            is_migrated(&store);
            let names = ["hot", "archive"];
            let names = names.map(|name| dir.path().join(format!("{name}.redb.format{format}")));
            assert_eq!(opened.kept, names);
            for copy in names {
                let copy = ReadOnlyDatabase::open(copy).expect("whole, it needs no repair");
                assert_eq!(stored_format(&copy).unwrap(), Some(format));
            }
            drop(store);
            let (store, opened) = Store::open(dir.path()).unwrap();
            assert!(opened.kept.is_empty());
            is_migrated(&store);
        }
    }

    #[test]
    fn a_migration_that_is_cut_off_goes_on_where_it_was_and_copies_nothing_half_done() {
        // The last of five steps raises the format.
        for steps in 0..=5 {
            let dir = tempfile::tempdir().unwrap();
            old_store(dir.path(), 1);
            let archive = Database::open(dir.path().join("archive.redb")).unwrap();
            for _ in 0..steps {
                give_ages(&archive, 2).unwrap();
            }
            drop(archive);
            let (store, opened) = Store::open(dir.path()).unwrap();
            is_migrated(&store);
            let archive = if steps == 0 { &["archive.redb.format1"][..] } else { &[] };
            let copies = [&["hot.redb.format1"], archive].concat();
            let kept: Vec<_> = opened.kept.iter().map(|path| path.file_name().unwrap()).collect();
            assert_eq!(kept, copies, "after {steps} steps");
        }
    }

    #[test]
    fn files_between_two_formats_are_brought_to_the_present_one_each_from_its_own() {
        // An earlier version was cut off after its archive's last step.
        let dir = tempfile::tempdir().unwrap();
        old_store(dir.path(), 2);
        let hot = Database::open(dir.path().join("hot.redb")).unwrap();
        let txn = hot.begin_write().unwrap();
        txn.open_table(META).unwrap().insert(META_FORMAT, b"1".as_slice()).unwrap();
        txn.commit().unwrap();
        drop(hot);
        let (store, opened) = Store::open(dir.path()).unwrap();
        is_migrated(&store);
        let names = ["hot.redb.format1", "archive.redb.format2"].map(|name| dir.path().join(name));
        assert_eq!(opened.kept, names);
    }

    #[test]
    fn progress_is_told_after_each_bounded_step() {
        let dir = tempfile::tempdir().unwrap();
        old_store(dir.path(), 1);
        let open = |name: &str| Database::open(dir.path().join(name)).unwrap();
        let mut told = Vec::new();
        let progress = |done, all| told.push((done, all));
        migrate_in_steps(&open("hot.redb"), &open("archive.redb"), 3, progress).unwrap();
        assert_eq!(told, [(3, 7), (6, 7), (7, 7)]);
    }
}
