//! Latencies, rates and the disk's own figure that they are to be read beside.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long each request took.
#[derive(Default)]
pub struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    pub fn measure<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = act();
        self.push(began.elapsed());
        done
    }

    pub fn push(&mut self, took: Duration) {
        self.micros.push(took.as_micros() as u32);
    }

    pub fn add(&mut self, other: Latencies) {
        self.micros.extend(other.micros);
    }

    /// The time in milliseconds that `percent` of the requests did not exceed; 0 when there were none.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let place = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        let micros = sorted.get(place.saturating_sub(1)).copied().unwrap_or_default();
        f64::from(micros) / 1e3
    }
}

pub fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// One line: what, how many a second, and how long they took.
pub fn line(name: &str, times: &Latencies, rate: Option<f64>) {
    let rate = rate.map(|rate| format!("{rate:>9.0}/s")).unwrap_or_default();
    let (p50, p99) = (times.percentile_ms(50.0), times.percentile_ms(99.0));
    println!("{name:<26} {rate:>11}   p50 {p50:>6.2} ms   p99 {p99:>6.2} ms");
}

/// What the disk can do at all.
pub struct Disk {
    /// Writes of 4 KiB, each followed by fdatasync.
    pub per_second: f64,
}

impl Disk {
    pub fn calibrate(dir: &Path, how_long: Duration) -> Disk {
        let path = dir.join(format!("bloom-load-calibration-{}", std::process::id()));
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&path).expect("a writable folder");
        let block = [0x5A_u8; 4096];
        // The file has its size before it is measured: only data is to be synced.
        file.write_all(&[0; 64 * 4096]).expect("space");
        file.sync_all().expect("a disk that syncs");
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < how_long {
            file.seek(SeekFrom::Start(count as u64 % 64 * 4096)).expect("a file");
            file.write_all(&block).expect("space");
            file.sync_data().expect("a disk that syncs");
            count += 1;
        }
        let per_second = per_second(count, began.elapsed());
        std::fs::remove_file(path).ok();
        Disk { per_second }
    }
}
