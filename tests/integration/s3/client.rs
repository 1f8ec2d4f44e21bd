//! The client against the real server: what it does, and what it says when that does not work.

use super::proxy::{Proxy, Weather};
use super::server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY, client, client_at, settings};
use bloom_runtime::artifacts::{Content, Fault, FaultKind, Place, S3, Source};
use bloom_runtime::clock::{Clock, ManualClock, SystemClock};
use bloom_runtime::config::{Minio, Secret};
use bloom_runtime::engine::hexadecimal;
use sha2::{Digest, Sha256};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PLACE: Place<'_> = Place { bucket: BUCKET, key: "artifacts/1 ü/2+~.json" };
const LARGE: usize = 3 << 20;

pub fn content(bytes: Vec<u8>) -> Content {
    Content {
        bytes: bytes.len() as u64,
        sha256: hexadecimal(&Sha256::digest(&bytes)),
        source: Source::Memory(bytes.into()),
        content_type: "application/json".into(),
    }
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|n| (n * 7 % 251) as u8).collect()
}

async fn read(s3: &S3, place: Place<'_>) -> Result<Vec<u8>, Fault> {
    s3.get(place, None).await?.whole(LARGE as u64).await
}

#[tokio::test]
async fn an_object_is_put_read_in_parts_and_deleted_and_its_bucket_is_made() {
    let server = S3Server::start();
    for bucket in [BUCKET, "another.bucket"] {
        let s3 = client(&settings(&server.url()));
        let (whole, place) = (large(), Place { bucket, ..PLACE });
        s3.put(place, &content(whole.clone())).await.unwrap();
        assert_eq!(s3.head(place).await.unwrap(), Some(LARGE as u64));
        assert!(read(&s3, place).await.unwrap() == whole);
        let part = s3.get(place, Some(100..3000)).await.unwrap();
        assert_eq!(part.bytes, 2900);
        assert!(part.whole(LARGE as u64).await.unwrap() == whole[100..3000]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &whole[1..]).unwrap();
        let other =
            Content { source: Source::File(file.path().into()), ..content(whole[1..].to_vec()) };
        s3.put(place, &other).await.unwrap();
        let objects = server.objects(bucket);
        assert_eq!(objects.keys().collect::<Vec<_>>(), [place.key]);
        assert!(objects[place.key] == whole[1..]);
        s3.put(place, &content(Vec::new())).await.unwrap();
        assert_eq!(s3.head(place).await.unwrap(), Some(0));
        s3.delete(place).await.unwrap();
        s3.delete(place).await.unwrap();
        assert_eq!(s3.head(place).await.unwrap(), None);
        assert_eq!(read(&s3, place).await.unwrap_err().kind, FaultKind::Missing);
        assert_eq!(server.objects(bucket).len(), 0);
    }
}

#[tokio::test]
async fn what_is_not_what_it_is_said_to_be_is_refused_by_s3_itself() {
    let server = S3Server::start();
    let s3 = client(&settings(&server.url()));
    let lie = Content { sha256: hexadecimal(&Sha256::digest("other")), ..content(b"one".to_vec()) };
    let fault = s3.put(PLACE, &lie).await.unwrap_err();
    assert!(!fault.is_everyones(), "{fault}");
    assert_eq!(server.objects(BUCKET).len(), 0);
    let file = tempfile::NamedTempFile::new().unwrap();
    let short = Content { source: Source::File(file.path().into()), ..content(vec![0; 9]) };
    assert_eq!(s3.put(PLACE, &short).await.unwrap_err().kind, FaultKind::Local);
    assert_eq!(server.objects(BUCKET).len(), 0);
}

#[tokio::test]
async fn anybody_gets_a_presigned_object_for_a_while_and_nobody_another_way() {
    let server = S3Server::start();
    let s3 = client(&settings(&server.url()));
    s3.put(PLACE, &content(b"for all".to_vec())).await.unwrap();
    let port = server.address.port();
    let curl = |url: String| {
        let resolve = format!("{BUCKET}.s3.localhost:{port}:127.0.0.1");
        let asked = ["-s", "-w", " %{http_code}", "--resolve", &resolve, &url];
        let said = Command::new("curl").args(asked).output().expect("curl");
        String::from_utf8(said.stdout).unwrap()
    };
    let by_host = Minio { path_style: false, ..settings(&format!("http://s3.localhost:{port}")) };
    let by_host = client(&by_host).presigned(PLACE, 60);
    assert!(by_host.starts_with(&format!("http://{BUCKET}.s3.localhost:{port}/artifacts/")));
    assert_eq!(curl(by_host), "for all 200");
    let url = s3.presigned(PLACE, 60);
    assert!(!url.contains(SECRET_KEY));
    assert_eq!(curl(url.clone()), "for all 200");
    assert!(curl(url.replace("X-Amz-Expires=60", "X-Amz-Expires=61")).ends_with(" 403"));
    assert!(curl(url.split_once('?').unwrap().0.into()).ends_with(" 403"));
    let past = SystemClock::new().now().wall;
    let past = client_at(&settings(&server.url()), Arc::new(ManualClock::new(past - 61_000)));
    assert!(curl(past.presigned(PLACE, 60)).ends_with(" 403"));
}

#[tokio::test]
async fn a_wrong_key_a_wrong_bucket_and_a_wrong_clock_are_told_in_words() {
    let server = S3Server::start();
    let right = settings(&server.url());
    let with = |change: fn(&mut Minio)| {
        let mut minio = right.clone();
        change(&mut minio);
        client(&minio)
    };
    let wrong_secret = with(|minio| minio.secret_key = Secret::new("hunter2"));
    let wrong_access = with(|minio| minio.access_key = Secret::new("hunter2"));
    let early = client_at(&right, Arc::new(ManualClock::new(0)));
    for (s3, words) in [
        (wrong_secret, "MINIO_SECRET_KEY is not that of MINIO_ACCESS_KEY"),
        (wrong_access, "MINIO_ACCESS_KEY"),
        (early, "here it is Thu, 01 Jan 1970 00:00:00 GMT, at S3 "),
    ] {
        // A large one is broken off before its answer.
        for bytes in [vec![1; 10], large()] {
            let fault = s3.put(PLACE, &content(bytes)).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
            assert!(fault.words.contains(words), "{fault}");
            for secret in [SECRET_KEY, ACCESS_KEY, "hunter2"] {
                assert!(!fault.words.contains(secret), "{fault}");
            }
        }
        assert_eq!(read(&s3, PLACE).await.unwrap_err().kind, FaultKind::Refused);
    }
    assert_eq!(read(&client(&right), PLACE).await.unwrap_err().kind, FaultKind::Missing);
    assert!(!server.bucket(BUCKET).exists(), "reading makes no bucket");
}

#[tokio::test]
async fn a_server_that_breaks_off_stalls_or_is_none_is_told_in_words_and_heals() {
    let server = S3Server::start();
    let proxy = Proxy::before(server.address);
    let mut s3 = client(&settings(&proxy.url()));
    s3.idle = Duration::from_millis(300);
    s3.put(PLACE, &content(large())).await.unwrap();
    let page: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let away: &[u8] =
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let full: &[u8] = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 42\r\n\r\n\
        <Error><Code>XMinioStorageFull</Code></Err";
    for (weather, writing, reading) in [
        (Weather::Down, "ended in the middle", "ended in the middle"),
        (Weather::CutsRequestsAfter(100_000), "ended in the middle", ""),
        (Weather::CutsAnswersAfter(100_000), "", "ended in the middle"),
        (Weather::StallsRequestsAfter(100_000), "too slow", ""),
        (Weather::StallsAnswersAfter(100_000), "", "too slow"),
        (Weather::StallsAnswersAfter(0), "too slow", "too slow"),
        (Weather::Says(b"\x15\x03\x01 what\r\n\r\n"), "not HTTP", "not HTTP"),
        (Weather::Says(page), "no S3", ""),
        (Weather::Says(away), "never followed", "never followed"),
        (Weather::Says(full), "S3 is full (507 XMinioStorageFull)", "S3 is full"),
    ] {
        proxy.set(weather.clone());
        let put = s3.put(PLACE, &content(large())).await;
        let got = read(&s3, PLACE).await;
        for (said, words) in [(put.err(), writing), (got.err(), reading)] {
            let said = said.map(|fault| fault.words).unwrap_or_default();
            assert!(
                said.contains(words) && said.is_empty() == words.is_empty()
                    || words.is_empty() && matches!(weather, Weather::Says(_)),
                "{weather:?}: {said:?} and not {words:?}"
            );
        }
        proxy.set(Weather::Fine);
        assert!(read(&s3, PLACE).await.unwrap() == large(), "after {weather:?}");
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let mut server = S3Server::start();
    let s3 = client(&settings(&server.url()));
    s3.put(PLACE, &content(b"kept".to_vec())).await.unwrap();
    server.kill();
    let fault = read(&s3, PLACE).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unreachable);
    let said = format!("S3 at {} cannot be reached: Connection refused", server.address);
    assert!(fault.words.starts_with(&said), "{fault}");
    server.run();
    assert_eq!(read(&s3, PLACE).await.unwrap(), b"kept");
}
