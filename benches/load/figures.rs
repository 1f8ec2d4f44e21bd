//! Latencies, CPU time, and the disk's own figure that they are to be read beside.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Linux counts CPU time for /proc in hundredths of a second on every machine we know.
const TICK: Duration = Duration::from_millis(10);

/// How long each request took.
#[derive(Default)]
pub struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    pub fn push(&mut self, took: Duration) {
        self.micros.push(took.as_micros() as u32);
    }

    pub fn add(&mut self, other: Latencies) {
        self.micros.extend(other.micros);
    }

    pub fn len(&self) -> usize {
        self.micros.len()
    }

    /// The time in milliseconds that `percent` of the requests did not exceed, as text.
    pub fn percentile_ms(&self, percent: f64) -> String {
        self.percentile(percent).map_or("no sample".into(), |ms| format!("{ms:.2}"))
    }

    /// The same as a number.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let place = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).map(|micros| f64::from(*micros) / 1e3)
    }
}

pub fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// CPU time so far of all threads of a process: its number, or `self`.
pub fn cpu(process: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // After the program's name in brackets: user time is the 12th field, system time the 13th.
    let (_, rest) = text.rsplit_once(')').expect("/proc/<pid>/stat has a name");
    let fields = rest.split_whitespace().skip(11).take(2);
    TICK * fields.filter_map(|field| field.parse::<u32>().ok()).sum::<u32>()
}

/// Bytes that a process caused to be written to its disk so far: its number, or `self`. Kernels with
/// large folios (ext4 since 6.16) count a whole folio for each page of it that is changed, which is up
/// to a hundred times too much for a large file that has been read.
pub fn written_bytes(process: &str) -> u64 {
    io_number(process, "write_bytes: ")
}

/// Bytes that a process has given to write calls so far, which are its files and its log; what goes to
/// sockets is not in it.
pub fn given_bytes(process: &str) -> u64 {
    io_number(process, "wchar: ")
}

fn io_number(process: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/io")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.parse().ok()).expect("/proc/<pid>/io has it")
}

/// Prints what the disk can do at all: writes of 4 KiB a second, each followed by fdatasync. Disks
/// drift, so it is said before and after.
pub fn print_disk(when: &str, dir: &Path, how_long: Duration) {
    let path = dir.join(format!("bloom-load-calibration-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(&path).expect("a writable folder");
    let block = [0x5A_u8; 4096];
    // The file has its size before it is measured: only data is to be synced.
    file.write_all(&[0; 64 * 4096]).expect("space");
    file.sync_all().expect("a disk that syncs");
    let (began, mut times) = (Instant::now(), Latencies::default());
    while began.elapsed() < how_long {
        let sent = Instant::now();
        file.seek(SeekFrom::Start(times.len() as u64 % 64 * 4096)).expect("a file");
        file.write_all(&block).expect("space");
        file.sync_data().expect("a disk that syncs");
        times.push(sent.elapsed());
    }
    println!(
        "disk {when}: {:.0} writes of 4 KiB with fdatasync a second, p50 {} ms, p99 {} ms, in {}",
        per_second(times.len(), began.elapsed()),
        times.percentile_ms(50.0),
        times.percentile_ms(99.0),
        dir.display()
    );
    std::fs::remove_file(path).ok();
}
