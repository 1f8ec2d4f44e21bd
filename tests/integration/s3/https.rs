//! S3 over https: an own authority is believed when its file is named, and nothing is sent otherwise.

use super::duty::{content, stored, to_s3};
use super::server::{BUCKET, S3Server};
use crate::harness::{eventually, id, success, under};
use crate::tls::{Authority, Front, GOOD};

#[test]
fn s3_behind_an_own_authority_takes_artifacts_once_its_file_is_named() {
    let s3 = S3Server::start();
    let authority = Authority::new();
    let front = Front::before(s3.address, &authority.issue("s3", &["127.0.0.1"], GOOD));
    let setup = to_s3(&front.url("127.0.0.1"));
    let ca = authority.ca();
    for trusted in [false, true] {
        let setup = setup.clone();
        let server = match trusted {
            true => setup.env("OUTGOING_CA", ca.to_str().expect("a path")).start(),
            false => setup.start(),
        };
        let mut client = server.client();
        client.register("w", 1);
        let task = client.new_task();
        let lease = client.lease(&task, "w", 600);
        let done = client.act(&task, "complete", under(&lease, success("over https"))).ok(200);
        let artifact = id(&done["artifact"]);
        if trusted {
            stored(&mut client, &artifact);
            assert_eq!(s3.objects(BUCKET).len(), 1);
        } else {
            let why = eventually("it is said why not", || {
                let health = client.get("/api/runtime/health").ok(200);
                health["artifacts"]["last_error"].as_str().map(str::to_owned)
            });
            assert!(why.contains("OUTGOING_CA"), "{why}");
            assert!(!s3.bucket(BUCKET).exists(), "nothing was sent");
        }
        assert_eq!(content(&mut client, &artifact), b"over https");
    }
}
