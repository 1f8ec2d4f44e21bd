//! The measurements beside a full store, each on a server of its own.
//!
//! Must stay true: what a server says of its counts is checked whenever it has started; ratios come
//! from runs that alternate. Not here: retention and compaction (`removal`).

use crate::build::{self, Moving};
use crate::cold::drop_caches;
use crate::cycle::Cycle;
use crate::drive::drive;
use crate::figures::Latencies;
use crate::idle::Crowd;
use crate::lists;
use crate::options::Options;
use crate::server::{Server, unlimited};
use crate::table::{kib_as_mib, line, median, mib, micros_each, p50_p99, seconds, spread, title};
use crate::wire::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The first number after `name` in the answer of a GET.
pub async fn number_of(server: &Server, path: &str, name: &str) -> u64 {
    let mut connection = Connection::new(server.address).await;
    connection.get(format_args!("{path}"));
    let answer = String::from_utf8_lossy(connection.exchange().await).into_owned();
    let (_, rest) = answer.split_once(name).unwrap_or(("", "0"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

pub async fn tasks_total(server: &Server) -> u64 {
    number_of(server, "/api/runtime/stats", "\"tasks\":{\"total\":").await
}

pub fn build(options: &Options, dir: &Path) {
    let (finished, live) = (options.finished, options.live);
    title("the store");
    let data = dir.join("data");
    if options.keep && data.join("hot.redb").exists() {
        line("taken as it was left", &dir.display().to_string(), "");
        return;
    }
    std::fs::remove_dir_all(&data).ok();
    let built = build::build(&data, finished, live);
    line("tasks", &format!("{finished} finished ({} of them old), {live} live", built.old), "");
    line("built in this process in", &seconds(built.elapsed), "");
    for (when, moving) in [("small archive", built.first), ("full archive", built.last)] {
        line(&format!("mover, {when}"), &cost(&moving), "");
    }
    let size = |name: &str| data.join(name).metadata().map_or(0, |found| found.len());
    line("hot.redb", &mib(size("hot.redb")), "");
    line("archive.redb", &mib(size("archive.redb")), "");
}

fn cost(moving: &Moving) -> String {
    let Moving { tasks, elapsed, cpu, given_bytes } = *moving;
    format!(
        "{} CPU, {} wall, {:.1} KiB written a task",
        micros_each(cpu, tasks),
        micros_each(elapsed, tasks),
        given_bytes as f64 / 1024.0 / tasks.max(1) as f64
    )
}

/// From the start of the process to its first answer, after each kind of end.
pub async fn starts(options: &Options, dir: &Path) {
    title("start to first answer");
    let mut server = Server::start_on(&options.program, dir.into(), unlimited(&[])).await;
    let none: Arc<[String]> = Arc::default();
    let mut how = "";
    let mut times: [Vec<Duration>; 4] = Default::default();
    // What a start costs, however busy the machine is with others.
    let mut cpu: [Vec<Duration>; 4] = Default::default();
    for _ in 0..options.rounds {
        for kind in 0..times.len() {
            // Something to repair: commits since the start.
            drive(&server, Cycle::Three, 8, 0.2, &none).await;
            let before = tasks_total(&server).await;
            let (kills, is_cold) = (kind >= 2, kind % 2 == 1);
            if kills {
                server.kill9();
            } else {
                server.terminate();
            }
            if is_cold {
                how = drop_caches(&dir.join("data"));
            }
            server.start_again().await;
            times[kind].push(server.started_in);
            cpu[kind].push(server.cpu());
            assert_eq!(tasks_total(&server).await, before, "an answered task is gone");
        }
    }
    let cold = format!("cold page cache ({how})");
    for (kind, (times, cpu)) in times.iter_mut().zip(&mut cpu).enumerate() {
        let (end, budget) =
            if kind < 2 { ("a clean stop", "") } else { ("kill -9", "≤ 1000 ms") };
        let cache = if kind % 2 == 0 { "warm page cache" } else { &cold };
        let figure = format!("{}, CPU {}", spread(times), spread(cpu));
        line(&format!("after {end}, {cache}"), &figure, budget);
    }
    line("resident memory after the start", &kib_as_mib(server.memory_kib("VmRSS")), "≤ 64 MB");
    server.terminate();
}

/// Throughput beside the store and on an empty one, in turns.
pub async fn beside(options: &Options, dir: &Path) {
    title(
        "transitions a second beside it, and on an empty store, in turns (create, lease, complete)",
    );
    let mut full = Server::start_on(&options.program, dir.into(), unlimited(&[])).await;
    let empty_dir = dir.join("empty");
    std::fs::remove_dir_all(&empty_dir).ok();
    let mut empty = Server::start_on(&options.program, empty_dir.clone(), unlimited(&[])).await;
    let none: Arc<[String]> = Arc::default();
    for connections in [1, 8, 64] {
        let (mut here, mut there, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut times, mut beside_empty) = (Latencies::default(), Latencies::default());
        for _ in 0..options.rounds {
            let load = drive(&full, Cycle::Three, connections, options.seconds, &none).await;
            let base = drive(&empty, Cycle::Three, connections, options.seconds, &none).await;
            let rate = |cycles: usize, time: Duration| 3.0 * cycles as f64 / time.as_secs_f64();
            here.push(rate(load.cycles, load.elapsed));
            there.push(rate(base.cycles, base.elapsed));
            ratios.push(100.0 * here[here.len() - 1] / there[there.len() - 1]);
            times.add(load.times);
            beside_empty.add(base.times);
        }
        let figure = format!(
            "{:.0} against {:.0}: {:.0} %, p99 {} against {} ms",
            median(&mut here),
            median(&mut there),
            median(&mut ratios),
            times.percentile_ms(99.0),
            beside_empty.percentile_ms(99.0)
        );
        line(&format!("{connections} connections"), &figure, "≥ 90 %");
    }
    let memory = |server: &Server| {
        format!(
            "{}, most {}",
            kib_as_mib(server.memory_kib("VmRSS")),
            kib_as_mib(server.memory_kib("VmHWM"))
        )
    };
    line("resident memory beside it", &memory(&full), "≤ 64 MB");
    line("resident memory, empty", &memory(&empty), "≤ 16 MB");
    full.terminate();
    empty.terminate();
    std::fs::remove_dir_all(&empty_dir).ok();
}

/// Lists with each filter, and counts.
pub async fn reading(options: &Options, dir: &Path) {
    let mut server = Server::start_on(&options.program, dir.into(), unlimited(&[])).await;
    let tasks = tasks_total(&server).await;
    for rows in [50, 1_000] {
        title(&format!("reading, one connection, pages of {rows}"));
        for page in lists::pages(tasks, rows) {
            let spent = server.cpu();
            let (times, bytes) = lists::measure(server.address, &page.path, options.requests).await;
            let cpu = micros_each(server.cpu() - spent, options.requests as u64);
            let kib = bytes as f64 / 1024.0;
            let figure = format!("{}, CPU {cpu}, {kib:.0} KiB", p50_p99(&times));
            let budget = if rows == 50 { "p99 ≤ 5 ms" } else { "" };
            line(&page.name, &figure, budget);
        }
    }
    title("reading, single answers");
    let (times, _) = lists::measure(server.address, "/api/runtime/stats", options.requests).await;
    line("stats", &p50_p99(&times), "p99 ≤ 5 ms");
    let known = some_old_tasks(&server, tasks).await;
    let mut times = Latencies::default();
    for task in known.iter().take(options.requests) {
        let path = format!("/api/runtime/llm-tasks/{task}");
        times.add(lists::measure(server.address, &path, 1).await.0);
    }
    line("an archived task", &p50_p99(&times), "p99 ≤ 5 ms");
    line("resident memory, most", &kib_as_mib(server.memory_kib("VmHWM")), "≤ 64 MB");
    server.terminate();
}

async fn some_old_tasks(server: &Server, tasks: u64) -> Vec<String> {
    let mut connection = Connection::new(server.address).await;
    let middle = tasks / 2;
    connection.get(format_args!("/api/runtime/llm-tasks?limit=500&cursor={middle:x}"));
    crate::wire::record_ids(connection.exchange().await)
}

/// Waiting workers and listeners while nothing happens, then single tasks.
pub async fn idle(options: &Options, dir: &Path) {
    let (workers, listeners) = (options.workers, options.listeners);
    title(&format!("{workers} waiting workers and {listeners} event listeners"));
    // Each claim that ends without a task is a line of the access log, which is not the store's.
    let env = unlimited(&[("LOG_LEVEL", "warn"), ("RETENTION_DAYS", "36500")]);
    let mut server = Server::start_on(&options.program, dir.into(), env).await;
    let before = server.memory_kib("VmRSS");
    let mut crowd = Crowd::gather(&server, workers, listeners).await;
    line("resident memory before they came", &kib_as_mib(before), "");
    if options.idle_seconds > 60.0 {
        // Workers of the load before fall silent, which is a change and is written.
        tokio::time::sleep(Duration::from_secs(90)).await;
    }
    let how_long = Duration::from_secs_f64(options.idle_seconds);
    let quiet = crowd.stay_quiet(&server, how_long).await;
    let time = seconds(quiet.elapsed);
    line("resident memory with them", &kib_as_mib(quiet.rss_kib), "≤ 64 MB");
    line(&format!("written in {time}"), &format!("{} bytes", quiet.written_bytes), "0 bytes");
    let ticks = format!("{:.0} ticks of 10 ms", quiet.cpu.as_secs_f64() * 100.0);
    line(&format!("CPU in {time}"), &ticks, "");
    let rounds = if options.rounds > 1 { 300 } else { 10 };
    let times = crowd.arrivals(&server, rounds).await;
    line("a task arrives → a waiting worker has it", &p50_p99(&times), "p99 ≤ 10 ms");
    line("the listeners heard", &mib(crowd.heard_bytes()), "");
    assert!(listeners == 0 || crowd.heard_bytes() > 0, "the listeners heard nothing");
    line("resident memory, most", &kib_as_mib(server.memory_kib("VmHWM")), "≤ 64 MB");
    drop(crowd);
    server.terminate();
}
