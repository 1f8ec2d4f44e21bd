//! The attacks: each is a crowd of clients that do one bad thing until their time is over.
//!
//! Must stay true: bounded in connections and time, to the given address only; a connection that the
//! server ends is opened again after a moment, as a stubborn client would.

use crate::hostile::KEY;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

/// Whom to attack, and until when.
#[derive(Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    pub ends: Instant,
}

type Running = Pin<Box<dyn Future<Output = ()>>>;

pub struct Attack {
    pub name: &'static str,
    /// What must be there before, by plain calls.
    pub prepare: fn(SocketAddr),
    pub start: fn(Target) -> Running,
}

const fn attack(name: &'static str, start: fn(Target) -> Running) -> Attack {
    Attack { name, prepare: |_| {}, start }
}

pub const ATTACKS: &[Attack] = &[
    attack("none", |target| Box::pin(async move { sleep_until(target).await })),
    attack("5,000 idle connections", |target| crowd(target, 5_000, idle)),
    attack("1,000 heads by the byte", |target| crowd(target, 1_000, slow_head)),
    attack("200 bodies by the byte, with key", |target| crowd(target, 200, slow_body)),
    attack("16 half bodies of 15 MB, with key", |target| crowd(target, 16, half_body)),
    attack("wrong keys, 64 connections", |target| crowd(target, 64, wrong_key)),
    attack("health, 64 connections", |target| crowd(target, 64, health)),
    attack("connect and vanish, 64 at once", |target| crowd(target, 64, vanish)),
    attack("pipelining, 32 connections", |target| crowd(target, 32, pipeline)),
    attack("pipelining and not reading, 500", |target| crowd(target, 500, deaf_pipeline)),
    attack("huge heads, 64 connections", |target| crowd(target, 64, huge_head)),
    attack("smuggling shapes, 64 connections", |target| crowd(target, 64, smuggle)),
    attack("chunked nonsense, 64 connections", |target| crowd(target, 64, nonsense)),
    attack("100 unread event streams", |target| {
        Box::pin(async move {
            let mut both = JoinSet::new();
            both.spawn(people(target, 100, deaf_listener));
            both.spawn(people(target, 8, create));
            both.join_all().await;
        })
    }),
    Attack {
        name: "100 unread pages of 4 MB, with key",
        prepare: large_tasks,
        start: |target| crowd(target, 100, deaf_reader),
    },
];

/// One client's way of being bad; it ends when its connection does.
type Way = fn(Target) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

fn crowd(target: Target, count: usize, way: Way) -> Running {
    Box::pin(people(target, count, way))
}

async fn people(target: Target, count: usize, way: Way) {
    let mut people = JoinSet::new();
    for _ in 0..count {
        people.spawn(async move {
            while Instant::now() < target.ends {
                let ended = timeout_at(target.ends.into(), way(target)).await;
                if !matches!(ended, Ok(Ok(()))) {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    people.join_all().await;
}

async fn sleep_until(target: Target) {
    tokio::time::sleep_until(target.ends.into()).await;
}

/// A client as a step in `Way`.
macro_rules! way {
    ($name:ident, $target:ident, $body:block) => {
        fn $name($target: Target) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
            Box::pin(async move { $body })
        }
    };
}

async fn connect(target: Target) -> io::Result<TcpStream> {
    TcpStream::connect(target.address).await
}

/// A connection whose own side holds next to nothing of what it is sent.
async fn narrow(target: Target) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4 << 10)?;
    socket.connect(target.address).await
}

/// Reads what comes until the server ends the connection.
async fn until_ended(mut stream: TcpStream) -> io::Result<()> {
    let mut part = [0; 4096];
    while stream.read(&mut part).await? > 0 {}
    Ok(())
}

const HEALTH: &str = "GET /api/runtime/health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn post(lines: &str) -> String {
    format!(
        "POST /api/runtime/llm-tasks HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\
         Content-Type: application/json\r\n{lines}\r\n"
    )
}

way!(idle, target, { until_ended(connect(target).await?).await });

way!(slow_head, target, {
    let mut stream = connect(target).await?;
    let head = format!(
        "GET /api/runtime/stats HTTP/1.1\r\nHost: localhost\r\nA: {}",
        "x".repeat(12 << 10)
    );
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(b"x").await?;
        sleep(Duration::from_millis(100)).await;
    }
});

way!(slow_body, target, {
    let mut stream = connect(target).await?;
    stream.write_all(post("Content-Length: 16000000\r\n").as_bytes()).await?;
    loop {
        stream.write_all(b" ").await?;
        sleep(Duration::from_millis(100)).await;
    }
});

way!(half_body, target, {
    let mut stream = connect(target).await?;
    stream.write_all(post("Content-Length: 16000000\r\n").as_bytes()).await?;
    stream.write_all(&vec![b' '; 15_000_000]).await?;
    until_ended(stream).await
});

/// Sends the same request again and again, each after the answer to the one before.
async fn again_and_again(target: Target, request: &str) -> io::Result<()> {
    let mut stream = connect(target).await?;
    let mut answer = [0; 4096];
    loop {
        stream.write_all(request.as_bytes()).await?;
        // Answers to these are short and come in one piece.
        if stream.read(&mut answer).await? == 0 {
            return Ok(());
        }
    }
}

way!(wrong_key, target, {
    let request =
        "GET /api/runtime/stats HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: wrong\r\n\r\n";
    again_and_again(target, request).await
});

way!(health, target, { again_and_again(target, HEALTH).await });

way!(create, target, {
    let body = r#"{"context_id":"c","agent_slug":"a","prompt":"p"}"#;
    let request = post(&format!("Content-Length: {}\r\n", body.len())) + body;
    again_and_again(target, &request).await
});

way!(vanish, target, {
    let phases = [
        String::new(),
        "GET /api".into(),
        post("Content-Length: 5000\r\n"),
        post("Content-Length: 5000\r\n") + "{\"a\":",
        post("Transfer-Encoding: chunked\r\n") + "ff\r\n{",
        format!(
            "GET /api/runtime/events HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\r\n"
        ),
    ];
    for phase in phases {
        let mut stream = connect(target).await?;
        stream.write_all(phase.as_bytes()).await?;
    }
    Ok(())
});

way!(pipeline, target, {
    let stream = connect(target).await?;
    let (mut reading, mut writing) = stream.into_split();
    let reader = tokio::spawn(async move {
        let mut part = [0; 16 << 10];
        while reading.read(&mut part).await.is_ok_and(|count| count > 0) {}
    });
    let requests = HEALTH.repeat(1_000);
    while writing.write_all(requests.as_bytes()).await.is_ok() {}
    reader.abort();
    Ok(())
});

way!(deaf_pipeline, target, {
    let mut stream = narrow(target).await?;
    let requests = HEALTH.repeat(1_000);
    loop {
        stream.write_all(requests.as_bytes()).await?;
    }
});

way!(huge_head, target, {
    let mut stream = connect(target).await?;
    let line = format!("A: {}\r\n", "x".repeat(1_000));
    stream.write_all(HEALTH.trim_end().as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    for _ in 0..1_000 {
        stream.write_all(line.as_bytes()).await?;
    }
    until_ended(stream).await
});

/// One request that is refused, and the end of its connection.
async fn refused(target: Target, bytes: &str) -> io::Result<()> {
    let mut stream = connect(target).await?;
    stream.write_all(bytes.as_bytes()).await?;
    until_ended(stream).await
}

way!(smuggle, target, {
    let hidden = post("Content-Length: 2\r\n") + "{}";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 70\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length : 5\r\n",
        "A: b\nContent-Length: 70\r\n",
    ] {
        // Closed with bytes unread is as good an end as any.
        refused(target, &(post(lines) + "0\r\n\r\n" + &hidden)).await.ok();
    }
    Ok(())
});

way!(nonsense, target, {
    let extension = format!("5;a={}\r\nhello\r\n", "x".repeat(1 << 20));
    let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(5_000));
    for body in ["ffffffffffffffff\r\nx", "-1\r\n", "0x5\r\n", &extension, &trailers] {
        refused(target, &(post("Transfer-Encoding: chunked\r\n") + body)).await.ok();
    }
    Ok(())
});

/// Sends a request and reads nothing of the answer.
async fn ask_and_not_read(target: Target, path: &str) -> io::Result<()> {
    let mut stream = narrow(target).await?;
    let request = format!(
        "GET /api/runtime/{path} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    sleep_until(target).await;
    Ok(())
}

way!(deaf_listener, target, { ask_and_not_read(target, "events").await });
way!(deaf_reader, target, { ask_and_not_read(target, "llm-tasks").await });

fn large_tasks(address: SocketAddr) {
    use std::io::{Read, Write};
    for _ in 0..5 {
        let prompt = "p".repeat(1 << 20);
        let body = format!(r#"{{"context_id":"c","agent_slug":"a","prompt":"{prompt}"}}"#);
        let mut stream = std::net::TcpStream::connect(address).expect("the server listens");
        let lines = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
        stream.write_all((post(&lines) + &body).as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer:.300}");
    }
}
