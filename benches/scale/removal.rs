//! Retention of half of the tasks beside normal work, the reuse of its space, and compaction.

use crate::cycle::Cycle;
use crate::drive::drive;
use crate::options::Options;
use crate::phases::tasks_total;
use crate::server::{Server, unlimited};
use crate::table::{kib_as_mib, line, mib, micros_each, p50_p99, seconds, title};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between the ages of the old and the young half.
const RETENTION_DAYS: &str = "90";
const LOOK: Duration = Duration::from_millis(100);

pub async fn run(options: &Options, dir: &Path) {
    title("retention of the older half");
    let none: Arc<[String]> = Arc::default();
    let start = |env| Server::start_on(&options.program, dir.into(), env);
    let mut server = start(unlimited(&[])).await;
    let before = tasks_total(&server).await;
    let load = drive(&server, Cycle::Three, 8, options.seconds, &none).await;
    line("8 connections before it", &p50_p99(&load.times), "");
    server.terminate();
    let size = |name: &str| dir.join("data").join(name).metadata().map_or(0, |found| found.len());
    let full = size("archive.redb");

    let mut server = start(unlimited(&[("RETENTION_DAYS", RETENTION_DAYS)])).await;
    let began = Instant::now();
    let load = drive(&server, Cycle::Three, 8, options.seconds, &none).await;
    line("8 connections while it removes", &p50_p99(&load.times), "");
    // Its cost is counted when nothing else is done.
    let (alone, left) = (Instant::now(), tasks_total(&server).await);
    let (given, spent) = (server.given_bytes(), server.cpu());
    let gone = loop {
        if let Some(gone) = removed(&server.said()) {
            break gone;
        }
        tokio::time::sleep(LOOK).await;
    };
    let (elapsed, cpu, given) =
        (alone.elapsed(), server.cpu() - spent, server.given_bytes() - given);
    let beside = tasks_total(&server).await;
    line("removed", &format!("{gone} tasks in {}", seconds(began.elapsed())), "");
    let each = left.saturating_sub(beside);
    let figure = format!(
        "{} CPU, {} wall, {:.1} KiB written",
        micros_each(cpu, each),
        micros_each(elapsed, each),
        given as f64 / 1024.0 / each.max(1) as f64
    );
    line(&format!("each of {each}, without the load"), &figure, "");
    assert!(before + 1 > gone && beside < before, "{beside} of {before} are left");
    line("resident memory, most", &kib_as_mib(server.memory_kib("VmHWM")), "≤ 64 MB");
    let after = size("archive.redb");
    line("archive.redb before and after", &format!("{} and {}", mib(full), mib(after)), "");

    reuse(options, &mut server).await;
    let total = tasks_total(&server).await;
    server.terminate();
    compact(options, dir);
    let mut server = start(unlimited(&[])).await;
    assert_eq!(tasks_total(&server).await, total, "compaction lost a task");
    line("start after it", &format!("{} ms", server.started_in.as_millis()), "");
    server.terminate();
}

/// What the duty says when nothing more is due.
fn removed(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once("retention removed tasks=")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// New tasks take the place of the removed ones.
async fn reuse(options: &Options, server: &mut Server) {
    let none: Arc<[String]> = Arc::default();
    let before = server.file_bytes("archive.redb");
    let load = drive(server, Cycle::Three, 64, 6.0 * options.seconds, &none).await;
    let made = load.cycles;
    // All of them are in the archive when the mover has had its pause.
    tokio::time::sleep(Duration::from_secs_f64((8.0 * options.seconds).min(40.0))).await;
    let grown = server.file_bytes("archive.redb").saturating_sub(before);
    line(&format!("archive.redb grows, {made} tasks later, by"), &mib(grown), "0");
}

fn compact(options: &Options, dir: &Path) {
    let began = Instant::now();
    let mut command = Command::new(&options.program);
    command.env_clear().arg("compact").arg("--data-dir").arg(dir.join("data"));
    let output = command.arg("--env-file").arg(dir.join("runtime.env")).output();
    let output = output.expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    line("bloom-runtime compact", &seconds(began.elapsed()), "");
    for file in said.lines().filter(|said| said.contains("given back")) {
        let (path, sizes) = file.split_once(": ").expect("a path and its sizes");
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        line(&format!("  {name}"), sizes, "");
    }
}
