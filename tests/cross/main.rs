//! What 32-bit machines get wrong: files beyond 4 GiB, numbers of 64 bits, times after 2038.
//!
//! What must stay true: each test is small enough for `cargo test` and is worth most on armv7, where
//! `tests/cross/run.sh` runs it under qemu. The clock itself is tried there with the real program under a
//! clock of 2040. Not here: what every machine gets wrong (`tests/integration`, `tests/proofs`).

use bloom_runtime::clock::civil;
use redb::backends::FileBackend;
use redb::{Builder, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use std::fs::{File, OpenOptions};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

const FOUR_GIB: u64 = 1 << 32;
/// 2040-01-01, beyond what 32 bits of seconds hold.
const AFTER_2038: Duration = Duration::from_secs(2_208_988_800);

fn new_file(dir: &tempfile::TempDir) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options.open(dir.path().join("file")).expect("a writable folder")
}

#[test]
fn what_is_written_beyond_four_gibibytes_of_a_file_lies_there_and_not_at_its_beginning() {
    let dir = tempfile::tempdir().expect("a writable folder");
    let backend = FileBackend::new(new_file(&dir)).expect("a new file");
    backend.set_len(FOUR_GIB + 4096).expect("a sparse file");
    backend.write(16, b"beginning").expect("writable");
    backend.write(FOUR_GIB + 16, b"beyond it").expect("writable");
    backend.sync_data().expect("synced");
    let mut read = [0; 9];
    for (offset, expected) in [(16, b"beginning"), (FOUR_GIB + 16, b"beyond it")] {
        backend.read(offset, &mut read).expect("readable");
        assert_eq!(&read, expected);
    }
    assert_eq!(backend.len().expect("a length"), FOUR_GIB + 4096);
}

/// Writes 4.6 GB below the temporary folder: `tests/cross/run.sh --long` runs it.
#[test]
#[ignore = "writes 4.6 GB"]
fn a_table_of_more_than_four_gibibytes_is_read_back_whole_after_it_was_opened_again() {
    const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("wide");
    const VALUES: u64 = 280;
    let value = |number: u64| vec![number as u8 | 1; (16 << 20) - 4096];
    let dir = tempfile::tempdir().expect("a writable folder");
    let path = dir.path().join("wide.redb");
    let open = || Builder::new().set_cache_size(8 << 20).create(&path).expect("it opens");
    let database = open();
    for first in (0..VALUES).step_by(20) {
        let mut write = database.begin_write().expect("writable");
        write.set_quick_repair(true);
        let mut table = write.open_table(TABLE).expect("the table");
        for number in first..first + 20 {
            table.insert(number, value(number).as_slice()).expect("room");
        }
        drop(table);
        write.commit().expect("committed");
    }
    drop(database);
    assert!(path.metadata().expect("it is there").len() > FOUR_GIB);
    let mut database = open();
    assert!(database.check_integrity().expect("readable"));
    let table = database.begin_read().expect("readable").open_table(TABLE).expect("the table");
    let mut seen = 0;
    for row in table.iter().expect("readable") {
        let (number, found) = row.expect("readable");
        assert!(found.value() == value(number.value()), "value {}", number.value());
        seen += 1;
    }
    assert_eq!(seen, VALUES);
}

#[test]
fn numbers_of_64_bits_carry_over_between_threads() {
    let count = AtomicU64::new(u64::from(u32::MAX) - 50_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25_000).for_each(|_| _ = count.fetch_add(1, Ordering::SeqCst)));
        }
    });
    assert_eq!(count.into_inner(), FOUR_GIB - 1 + 50_000);
}

#[test]
fn a_time_after_2038_is_a_time() {
    assert_eq!(UNIX_EPOCH.checked_add(AFTER_2038).map(|at| at > UNIX_EPOCH), Some(true));
    assert_eq!(civil(AFTER_2038.as_secs() as i64 / 86_400), (2040, 1, 1));
}
