//! The certificate at the start: one of our making, one that was given, and every fault of one.

use super::authority::{Authority, GOOD, fingerprint};
use super::*;
use crate::harness::{Ended, run};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

#[test]
fn a_self_signed_server_is_believed_by_whoever_has_its_certificate() {
    let server = self_signed().start();
    let made = made_by(&server);
    for host in ["localhost", "127.0.0.1"] {
        let answer = get(&server, &made, host, HEALTH).expect("it is believed");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    let stranger = get(&server, &made, "elsewhere.example", HEALTH).unwrap_err();
    assert!(stranger.contains("no alternative certificate subject name"), "{stranger}");
    let unknown = Authority::new();
    assert!(get(&server, &unknown.ca(), "localhost", HEALTH).is_err());
    let text = openssl(&["x509", "-noout", "-text", "-in"], &made);
    for part in [
        "Not Before: Jan  1 00:00:00 1970",
        "Not After : Dec 31 00:00:00 9999",
        "IP Address:127.0.0.1",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_self_signed_certificate_is_made_once_its_key_is_closed_and_its_fingerprint_told() {
    let mut server = self_signed().start();
    let (dir, shown) = (server.dir(), fingerprint(&made_by(&server)));
    let said = server.wait_until_said("listening on https://127.0.0.1:");
    assert!(said.contains(&format!("SHA-256 {shown}")), "{said}");
    let pair = dir.path().join("data/tls/self-signed.pem");
    let mode = std::fs::metadata(&pair).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(server.terminate(), Some(0));
    let mut again = self_signed().start_in(dir.clone());
    assert!(again.said().contains(&shown), "{}", again.said());
    assert_eq!(again.said().matches("was made").count(), 0);
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let env = [("TLS_SELF_SIGNED", "1"), ("RUNTIME_API_KEY", "k")];
    let checked = run(&["check", "--data-dir", data, "--env-file", "/dev/null"], &env);
    assert!(checked.stdout.contains(&shown), "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("address: https://"), "{}", checked.stdout);
    assert_eq!(again.terminate(), Some(0));
    std::fs::remove_dir_all(dir.path().join("data/tls")).expect("ours");
    let anew = self_signed().start_in(dir);
    assert!(!anew.said().contains(&shown), "{}", anew.said());
}

#[test]
fn check_makes_no_certificate() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let args = ["check", "--data-dir", data.to_str().expect("UTF-8"), "--env-file", "/dev/null"];
    let checked = run(&args, &[("TLS_SELF_SIGNED", "1")]);
    assert!(checked.stdout.contains("will be made at the first start"), "{}", checked.stdout);
    assert!(!data.exists());
}

#[test]
fn keys_of_every_kind_that_openssl_writes_are_taken() {
    let authority = Authority::new();
    let makers: [(&str, &[&str]); 4] = [
        (
            "pkcs8-rsa",
            &["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ),
        ("pkcs1-rsa", &["genrsa", "-traditional", "2048"]),
        (
            "pkcs8-ec",
            &["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ),
        ("ed25519", &["genpkey", "-quiet", "-algorithm", "ED25519"]),
    ];
    for (name, args) in makers {
        let output = Command::new("openssl").args(args).output().expect("openssl is there");
        let key = String::from_utf8(output.stdout).expect("PEM");
        // rcgen signs for PKCS#8 alone; the server gets the key as it was.
        let file = authority.path("original.key");
        std::fs::write(&file, &key).expect("a file");
        let pkcs8 = openssl(&["pkcs8", "-topk8", "-nocrypt", "-in"], &file);
        let pair = authority.issue_for_key(name, &["localhost"], &pkcs8);
        std::fs::write(&pair.key, &key).expect("a file");
        let server = with_pair(&pair).start();
        let answer = get(&server, &authority.ca(), "localhost", HEALTH);
        assert!(
            answer.as_ref().is_ok_and(|answer| answer.contains("200 OK")),
            "{name}: {answer:?}"
        );
    }
}

#[test]
fn every_fault_of_a_certificate_is_one_line_that_names_the_file() {
    let authority = Authority::new();
    let pair = authority.issue("good", &["localhost"], GOOD);
    let other = authority.issue("other", &["localhost"], GOOD);
    let path = |name: &str, text: &str| {
        std::fs::write(authority.path(name), text).expect("a file");
        authority.path(name)
    };
    let locked = Command::new("openssl")
        .args(["genpkey", "-quiet", "-algorithm", "RSA", "-aes256", "-pass", "pass:hunter2"])
        .output()
        .expect("openssl is there");
    let locked = path("locked.key", &String::from_utf8(locked.stdout).expect("PEM"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (certificate, key, words) in [
        (authority.path("none.pem"), pair.key.clone(), "none.pem cannot be read: No such file"),
        (
            pair.certificate.clone(),
            authority.path("none.key"),
            "none.key cannot be read: No such file",
        ),
        (path("empty.pem", ""), pair.key.clone(), "empty.pem holds no certificate"),
        (pair.key.clone(), pair.key.clone(), "good.key holds no certificate"),
        (path("broken.pem", broken), pair.key.clone(), "broken.pem holds no usable certificate"),
        (pair.certificate.clone(), pair.certificate.clone(), "good.pem holds no private key"),
        (pair.certificate.clone(), locked, "one with a password cannot be used"),
        (pair.certificate.clone(), other.key.clone(), "other.key does not belong to the first"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let Ended { code, stderr, .. } =
            with_pair(&Pair { certificate, key }).refuse_in(dir.path());
        assert_eq!(code, Some(64), "{stderr}");
        assert!(stderr.contains(words) && stderr.starts_with("bloom-runtime: TLS_CERT, TLS_KEY: "));
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("PRIVATE KEY-----\n") && !dir.path().join("data").exists());
    }
}

#[test]
fn a_certificate_that_has_ended_or_soon_will_is_served_with_a_warning() {
    let authority = Authority::new();
    for (time, words) in [
        ((-30, -2), "clients refuse it, unless they pin it"),
        ((-30, 10), " days, on "),
        ((20, 300), "is the clock right?"),
    ] {
        let pair = authority.issue("dated", &["localhost"], time);
        let server = with_pair(&pair).start();
        server.wait_until_said(words);
        let paths = [&pair.certificate, &pair.key].map(|path| path.to_str().expect("UTF-8"));
        let env = [("TLS_CERT", paths[0]), ("TLS_KEY", paths[1])];
        let checked = run(&["check", "--env-file", "/dev/null"], &env);
        assert!(checked.code == Some(0) && checked.stdout.contains(words), "{}", checked.stdout);
        assert!(s_client(&server, &[]).1);
    }
    let server = with_pair(&authority.issue("good", &["localhost"], GOOD)).start();
    assert!(s_client(&server, &[]).1);
    assert!(!server.said().contains("the certificate of"), "{}", server.said());
}

#[test]
fn a_taken_http_port_is_told_by_its_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let dir = Arc::new(tempfile::tempdir().expect("a folder"));
    let ended = self_signed().env("HTTP_PORT", &port).refuse_in(dir.path());
    assert_eq!(ended.code, Some(69));
    assert!(ended.stderr.contains("choose another with HTTP_PORT"), "{}", ended.stderr);
}
