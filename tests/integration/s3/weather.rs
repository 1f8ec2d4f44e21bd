//! The proof: artifacts go to an S3 that comes and goes, from a server that is killed now and then.
//!
//! Must stay true: each content can be read at every moment as it was given, and lies in S3 exactly once in
//! the end. `sh tests/proofs.sh s3` runs the long form (`BLOOM_S3_ARTIFACTS`).

use super::duty::{ARTIFACTS, artifact, content, sha256, to_s3};
use super::proxy::{Proxy, Weather};
use super::server::{BUCKET, S3Server};
use crate::harness::{Server, TASKS, id, success, under};
use crate::http::Client;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A long backlog takes its time after the last storm.
const PATIENCE: Duration = Duration::from_secs(600);

/// Numbers that are the same in each run of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

struct World {
    s3: S3Server,
    s3_runs: bool,
    proxy: Proxy,
    is_fine: bool,
    server: Server,
    dice: Dice,
    /// Digests by artifact.
    made: Vec<(String, String)>,
    /// Reads that S3 alone could have answered while it was away.
    missed: usize,
}

impl World {
    fn new(seed: u64, inline: &str) -> World {
        let s3 = S3Server::start();
        let proxy = Proxy::before(s3.address);
        let server = to_s3(&proxy.url()).env("ARTIFACT_INLINE", inline).start();
        let (dice, made) = (Dice(seed), Vec::new());
        World { s3, s3_runs: true, proxy, is_fine: true, server, dice, made, missed: 0 }
    }

    fn change_weather(&mut self) {
        match self.dice.below(6) {
            0 if self.s3_runs => {
                self.s3.kill();
                self.s3_runs = false;
            }
            0 | 1 if !self.s3_runs => {
                self.s3.run();
                self.s3_runs = true;
            }
            2 => {
                self.server.kill9();
                self.server.restart();
            }
            3 => {
                let bytes = self.dice.below(3_000) as usize;
                let weathers = [
                    Weather::Down,
                    Weather::CutsAnswersAfter(bytes),
                    Weather::CutsRequestsAfter(bytes),
                    Weather::Says(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
                ];
                let which = self.dice.below(weathers.len() as u64) as usize;
                self.proxy.set(weathers[which].clone());
                self.is_fine = false;
            }
            _ => {
                self.proxy.set(Weather::Fine);
                self.is_fine = true;
            }
        }
    }

    fn complete(&mut self, client: &mut Client) {
        let n = self.made.len();
        let output = format!("{n} ").repeat(1 + self.dice.below(2_000) as usize);
        let task = client.new_task();
        let lease = client.lease(&task, "w", 600);
        if self.dice.below(5) == 0 {
            let path = format!("{TASKS}/{task}/artifacts?lease_id={lease}&name={n}.txt");
            let file = format!("file {output}");
            let given = client.send("POST", &path, &[], Some(file.as_bytes())).ok(201);
            self.made.push((id(&given), sha256(file.as_bytes())));
        }
        let done = client.act(&task, "complete", under(&lease, success(&output))).ok(200);
        self.made.push((id(&done["artifact"]), sha256(output.as_bytes())));
    }

    /// Reads some artifact, which must be whole or, if only S3 has it, wait for S3.
    fn read_one(&mut self, client: &mut Client, keeps: bool) {
        let which = self.dice.below(self.made.len() as u64) as usize;
        let (id, digest) = &self.made[which];
        let answer = client.try_send("GET", &format!("{ARTIFACTS}/{id}/content"), &[], None);
        let away = !self.s3_runs || !self.is_fine;
        match answer {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(sha256(&answer.body), *digest, "artifact {which}");
            }
            Ok(answer) => {
                assert_eq!(answer.status, 503, "artifact {which}: {answer}");
                assert_eq!(answer.json()["code"], "artifact_unavailable");
                assert!(away && !keeps, "artifact {which}, in fine weather: {answer}");
                self.missed += 1;
            }
            Err(error) => {
                assert!(away && !keeps, "artifact {which} broke off in fine weather: {error}");
                self.missed += 1;
            }
        }
    }
}

fn prove(seed: u64, inline: &str) {
    let artifacts = std::env::var("BLOOM_S3_ARTIFACTS").ok().and_then(|n| n.parse().ok());
    let artifacts = artifacts.unwrap_or(200);
    let (began, mut world) = (Instant::now(), World::new(seed, inline));
    world.server.client().register("w", 32);
    while world.made.len() < artifacts {
        let mut client = world.server.client();
        for _ in 0..=world.dice.below(15) {
            world.complete(&mut client);
            world.read_one(&mut client, inline == "keep");
            world.read_one(&mut client, inline == "keep");
        }
        world.change_weather();
    }
    if !world.s3_runs {
        world.s3.run();
    }
    world.proxy.set(Weather::Fine);
    world.server.kill9();
    world.server.restart();
    let (mut client, deadline) = (world.server.client(), Instant::now() + PATIENCE);
    let mut expected = BTreeMap::new();
    for (id, digest) in &world.made {
        let url = loop {
            if let Some(url) = artifact(&mut client, id)["url"].as_str() {
                break url.to_owned();
            }
            assert!(Instant::now() < deadline, "artifact {id} never came to S3");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(sha256(&content(&mut client, id)), *digest);
        let key = url.strip_prefix(&format!("minio://{BUCKET}/")).expect("in our bucket");
        assert_eq!(expected.insert(key.to_owned(), digest.clone()), None, "two under {key}");
    }
    let there = world.s3.objects(BUCKET).into_iter();
    let there: BTreeMap<_, _> = there.map(|(key, bytes)| (key, sha256(&bytes))).collect();
    assert!(there == expected, "each is in S3 exactly once");
    println!(
        "{} artifacts ({inline}), {} reads had to wait for S3, took {:?}",
        expected.len(),
        world.missed,
        began.elapsed()
    );
}

#[test]
fn in_any_weather_every_artifact_can_be_read_and_is_in_s3_once_in_the_end() {
    prove(0x5eed_0001, "until_uploaded");
}

#[test]
fn with_copies_that_stay_no_weather_is_noticed_by_who_reads() {
    prove(0x5eed_0002, "keep");
}
