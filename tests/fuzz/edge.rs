//! The edge: where a request ends, which route it is, its query, its page, who sent it.

use crate::seeds::{config, mutated, mutated_text};
use bloom_runtime::config::Network;
use bloom_runtime::http::client_address::{Scheme, client_address, forwarded_scheme};
use bloom_runtime::http::form::{DecodeFault, decode_segment, encode_value, parse_form};
use bloom_runtime::http::framing::Framing;
use bloom_runtime::http::paging;
use bloom_runtime::http::routes::{Endpoint, Routed, is_api, route};
use hyper::Method;
use proptest::prelude::*;
use std::net::IpAddr;

const PATHS: &str = include_str!("corpus/paths.txt");
const QUERIES: &str = include_str!("corpus/queries.txt");
const FORWARDED: &str = include_str!("corpus/forwarded.txt");

fn method() -> impl Strategy<Value = Method> {
    let known = [Method::GET, Method::POST, Method::HEAD, Method::DELETE, Method::OPTIONS];
    prop_oneof![
        9 => prop::sample::select(known.to_vec()),
        1 => "[A-Z!#$%&'*+.^_`|~-]{1,12}"
            .prop_map(|name| Method::from_bytes(name.as_bytes()).expect("a token")),
    ]
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<std::net::IpAddr>(),
        prop::sample::select(vec![
            "127.0.0.1",
            "::1",
            "10.0.0.7",
            "::ffff:10.0.0.7",
            "203.0.113.9"
        ])
        .prop_map(|text| text.parse().expect("an address")),
    ]
}

/// A whole request, as chunks or with a length; the bytes of its body are requests themselves.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(
        prop::sample::select(vec![
            "\r\n",
            "\n",
            "0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "x",
        ]),
        0..6,
    );
    (body, prop::option::of(1usize..40), 0usize..3).prop_map(|(body, chunks, trailers)| {
        let body = body.concat();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\n";
        let Some(chunks) = chunks else {
            return format!("{head}content-length:{}\r\n\r\n{body}", body.len()).into_bytes();
        };
        let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for part in body.as_bytes().chunks(chunks) {
            bytes.extend_from_slice(format!("{:X} ;a=\"b\"\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"00\r\n");
        bytes.extend_from_slice("Host: y\r\n".repeat(trailers).as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes
    })
}

proptest! {
    #![proptest_config(config("tests/fuzz/found/edge.txt"))]

    #[test]
    fn whatever_leads_anywhere_is_authenticated(method in method(), path in mutated_text(PATHS)) {
        let found = route(&method, &path);
        // The page is open to everybody, and so are its files, whose names are taken as they are.
        let read = match route(&Method::GET, &path) {
            Routed::To(to) => Some(to.endpoint),
            _ => None,
        };
        let is_file = read == Some(Endpoint::PageFile);
        if found != Routed::NotFound {
            let is_page = is_file || read == Some(Endpoint::Page);
            prop_assert!(is_api(&path) != is_page, "{path:?} is routed and not authenticated");
        }
        if is_file {
            return Ok(());
        }
        if path.starts_with('/') && !path.ends_with('/') {
            prop_assert_eq!(&route(&method, &format!("{path}/")), &found, "one trailing slash");
        }
        match &found {
            Routed::To(to) => {
                prop_assert_eq!(route(&Method::HEAD, &path) == found, is_reading(&method));
                // The same ids spelt out, in a path of capitals, lead to the same place.
                let ids: &[usize] = if to.lease.is_some() { &[2, 6] } else { &[4] };
                let spell = |(place, segment): (usize, &str)| match ids.contains(&place) {
                    true => encode_value(&decode_segment(segment).expect("it was routed")),
                    false => segment.to_ascii_uppercase(),
                };
                let spelt = path.split('/').enumerate().map(spell).collect::<Vec<_>>().join("/");
                let again = route(&method, &spelt);
                prop_assert_eq!(&again, &found, "{}", spelt);
            }
            Routed::Options(allow) | Routed::WrongMethod(allow) => {
                prop_assert!(!allow.is_empty());
                prop_assert_eq!(matches!(found, Routed::Options(_)), method == Method::OPTIONS);
                for allowed in allow.split(", ") {
                    let allowed = Method::from_bytes(allowed.as_bytes()).expect("a method");
                    let to = route(&allowed, &path);
                    prop_assert!(matches!(to, Routed::To(_) | Routed::BadEscape), "{allowed} {to:?}");
                }
            }
            Routed::NotFound | Routed::BadEscape => {}
        }
    }

    #[test]
    fn a_query_is_its_fields_and_nothing_else(bytes in mutated(QUERIES)) {
        match parse_form(&bytes) {
            Ok(fields) => {
                prop_assert!(fields.len() <= 1000);
                let length: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
                prop_assert!(length <= bytes.len());
                let pairs: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| format!("{}={}", encode_value(name), encode_value(value)))
                    .collect();
                prop_assert_eq!(parse_form(pairs.join("&").as_bytes()), Ok(fields));
            }
            Err(DecodeFault::BrokenEscape) => prop_assert!(bytes.contains(&b'%')),
            Err(DecodeFault::NotUtf8) => {
                prop_assert!(bytes.contains(&b'%') || str::from_utf8(&bytes).is_err());
            }
            Err(DecodeFault::TooManyFields) => {
                prop_assert!(bytes.iter().filter(|byte| **byte == b'&').count() >= 1000);
            }
        }
    }

    #[test]
    fn a_page_is_never_empty_nor_endless(text in mutated_text(QUERIES), default in 1usize..=1000) {
        let rows = paging::limit(Some(&text), default);
        prop_assert!((1..=paging::ROWS_MAX).contains(&rows));
        match paging::cursor(Some(&text)) {
            Ok(Some(seq)) => prop_assert_eq!(paging::print(seq), text),
            Ok(None) => prop_assert_eq!(text, ""),
            Err(_) => {}
        }
    }

    #[test]
    fn a_cursor_that_was_given_is_taken_back(seq: u64) {
        prop_assert_eq!(paging::cursor(Some(&paging::print(seq))), Ok(Some(seq)));
    }

    #[test]
    fn what_a_caller_invents_to_the_left_changes_nothing(
        peer in addresses(),
        values in prop::collection::vec(mutated(FORWARDED), 0..4),
        invented in mutated(FORWARDED),
    ) {
        let trusted = ["127.0.0.0/8", "::1", "10.0.0.0/8"]
            .map(|text| Network::parse(text).expect("a network"));
        let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
        let all = |values: &[Vec<u8>]| {
            client_address(peer, values.iter().map(Vec::as_slice), &trusted)
        };
        let client = all(&values);
        if !is_trusted(peer.to_canonical()) {
            prop_assert_eq!(client, peer.to_canonical());
        }
        if !is_trusted(client) {
            let mut more = vec![invented.clone()];
            more.extend(values.iter().cloned());
            prop_assert_eq!(all(&more), client, "a header before the others");
            if let Some(first) = more.get(1).cloned() {
                more[1] = [invented.as_slice(), b", ", first.as_slice()].concat();
                prop_assert_eq!(all(&more[1..]), client, "an entry before the others");
            }
        }
        let scheme = forwarded_scheme(peer.to_canonical(), Some(&invented), &trusted);
        let expected = match invented.as_slice() {
            b"http" => Some(Scheme::Http),
            b"https" => Some(Scheme::Https),
            _ => None,
        };
        prop_assert_eq!(scheme, expected.filter(|_| is_trusted(peer.to_canonical())));
    }

    #[test]
    fn each_request_has_one_verdict_however_its_bytes_arrive(
        requests in prop::collection::vec(request(), 1..6),
        cuts in prop::collection::vec(1usize..50, 1..40),
    ) {
        let all = requests.concat();
        let (mut framing, mut rest) = (Framing::default(), all.as_slice());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*cut));
            prop_assert_eq!(framing.feed(now), Ok(()));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        for _ in &requests {
            prop_assert_eq!(framing.next_request(), Ok(()));
        }
        prop_assert!(framing.next_request().is_err(), "one too many");
    }

    #[test]
    fn no_bytes_make_the_watcher_panic_or_see_a_request_more(
        mut bytes in request(),
        noise in mutated(PATHS),
        at: prop::sample::Index,
    ) {
        let at = at.index(bytes.len());
        bytes.splice(at..at, noise);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let mut framing = Framing::default();
        let _ = framing.feed(&bytes);
        let seen = (0..=lines).take_while(|_| framing.next_request().is_ok()).count();
        prop_assert!(seen * 2 <= lines, "a request has at least two lines");
    }
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
