//! Files of an older format, made of present ones.
//!
//! Format 2 had no idempotency keys. Format 1 had no list by age besides, and its archive's records had no
//! age. Must stay true: what is stored says the same as before, but for the keys. Not here: the way back (`store::migrate`).

use crate::disk::{Disk, Image};
use redb::{Database, ReadableTable, TableDefinition};
use serde_json::Value;

const KEYS: TableDefinition<&str, u64> = TableDefinition::new("keys");
const KEYS_BY_TASK: TableDefinition<u64, (u64, &str)> = TableDefinition::new("keys_by_task");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");
const TASKS_BY_AGE: TableDefinition<(u8, u64, u64), ()> = TableDefinition::new("tasks_by_age");

/// The same hot file and archive in format 1 or 2.
pub fn of(format: u64, hot: Image, archive: Image) -> (Image, Image) {
    let hot = changed(format, hot, |txn| {
        assert!(txn.delete_table(KEYS).unwrap(), "it is of format 3");
        assert!(txn.delete_table(KEYS_BY_TASK).unwrap(), "it is of format 3");
    });
    let archive = changed(format, archive, |txn| {
        if format == 2 {
            return;
        }
        assert!(txn.delete_table(TASKS_BY_AGE).unwrap(), "it is of format 2");
        let mut tasks = txn.open_table(TASKS).unwrap();
        let rows = tasks.iter().unwrap().map(|row| row.unwrap());
        let rows: Vec<(u64, Vec<u8>)> =
            rows.map(|(seq, bytes)| (seq.value(), bytes.value().to_vec())).collect();
        for (seq, bytes) in rows {
            let mut record: Value = serde_json::from_slice(&bytes).unwrap();
            record.as_object_mut().unwrap().remove("archived_age_ms").expect("it has one");
            tasks.insert(seq, serde_json::to_vec(&record).unwrap().as_slice()).unwrap();
        }
    });
    (hot, archive)
}

fn changed(format: u64, image: Image, change: impl FnOnce(&redb::WriteTransaction)) -> Image {
    let disk = Disk::holding(image);
    let database = Database::builder().create_with_backend(disk.clone()).unwrap();
    let mut txn = database.begin_write().unwrap();
    // As the archive is always written; the hot file does not mind.
    txn.set_quick_repair(true);
    txn.open_table(META).unwrap().insert("format", format.to_string().as_bytes()).unwrap();
    change(&txn);
    txn.commit().unwrap();
    drop(database);
    disk.written()
}
