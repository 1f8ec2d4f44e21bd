//! Many idle workers as `bloom-runtime worker` behaves: each waits 25 s for a task again and again, and
//! registers every 20 s as its sign of life.
//!
//! Must stay true: nothing changes meanwhile, so the server must not write (P8). The workers are tasks of
//! this program; what they cost it is not measured.

use crate::Options;
use crate::server::{Server, unlimited};
use crate::table::{line, mib, seconds, title};
use crate::wire::Connection;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

async fn wait_for_tasks(server: SocketAddr, name: String) {
    let mut connection = Connection::new(server).await;
    loop {
        connection.post(
            format_args!("/api/runtime/workers/{name}/claim"),
            format_args!("{{\"wait_seconds\":25,\"lease_seconds\":90}}"),
        );
        connection.exchange().await;
    }
}

/// A connection for each call, as the worker's client has it.
async fn give_signs_of_life(server: SocketAddr, name: String, after: Duration) {
    tokio::time::sleep(after).await;
    loop {
        let mut connection = Connection::new(server).await;
        connection.post(
            format_args!("/api/runtime/workers"),
            format_args!("{{\"name\":\"{name}\",\"capabilities\":{{\"max_concurrency\":32}}}}"),
        );
        connection.exchange().await;
        tokio::time::sleep(SIGN_OF_LIFE).await;
    }
}

pub async fn measure(options: &Options) {
    title(&format!("{} workers with nothing to do", options.workers));
    let server = Server::start(&options.program, &options.dir, unlimited(&[])).await;
    let name = |n: usize| format!("waiting-{n}");
    server.register((0..options.workers).map(name)).await;
    let mut tasks = Vec::new();
    for n in 0..options.workers {
        tasks.push(tokio::spawn(wait_for_tasks(server.address, name(n))));
        let after = SIGN_OF_LIFE.mul_f64(n as f64 / options.workers as f64);
        tasks.push(tokio::spawn(give_signs_of_life(server.address, name(n), after)));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (began, written, cpu) = (Instant::now(), server.written_bytes(), server.cpu());
    let data = server.data_bytes();
    let log = server.log_bytes();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    assert!(tasks.iter().all(|task| !task.is_finished()), "a call failed");
    let (elapsed, cpu) = (began.elapsed(), server.cpu() - cpu);
    let share = 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64();
    // The log is a file too; what it was given is not the store's.
    let store = (server.written_bytes() - written).saturating_sub(server.log_bytes() - log);
    line("resident memory", &mib(server.memory_kib("VmRSS") << 10), "64 MiB");
    line("CPU", &format!("{share:.1} % of one core in {}", seconds(elapsed)), "");
    line("written but for the log", &mib(store), "0");
    line("the data files grew by", &mib(server.data_bytes() - data), "0");
    tasks.iter().for_each(|task| task.abort());
}
