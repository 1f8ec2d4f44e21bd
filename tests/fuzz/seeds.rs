//! Seeds and their mutation: a line of a corpus file with a few bytes changed.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Short unless `PROPTEST_CASES` says otherwise; failures are kept in the file of this target.
pub fn config(found: &'static str) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(1_000),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(found))),
        ..ProptestConfig::default()
    }
}

/// The seeds of a corpus: one a line, with `\n`, `\t`, `\r`, `\\` and `\xNN` for single bytes.
pub fn seeds(corpus: &str) -> Vec<Vec<u8>> {
    let lines = corpus.lines().filter(|line| !line.starts_with("# "));
    let seeds: Vec<_> = lines.map(unescape).collect();
    assert!(seeds.len() > 5, "a corpus");
    seeds
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        let plain = match byte {
            b'\\' => match rest.next().expect("something behind a backslash") {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let mut digit = || {
                        let digit = rest.next().expect("two digits behind x");
                        char::from(digit).to_digit(16).expect("a hexadecimal digit") as u8
                    };
                    digit() << 4 | digit()
                }
                other => other,
            },
            other => other,
        };
        bytes.push(plain);
    }
    bytes
}

/// What often lies on the edge of a reader's grammar.
const NASTY: [&[u8]; 40] = [
    b"%",
    b"%0",
    b"%00",
    b"%2F",
    b"%ff",
    b"%C3%28",
    b"/",
    b"//",
    b".",
    b"..",
    b"?",
    b"#",
    b"&",
    b"=",
    b"+",
    b";",
    b",",
    b":",
    b" ",
    b"\t",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xef\xbb\xbf",
    "ж".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{10ffff}".as_bytes(),
    b"\\u",
    b"\\ud800",
    b"\\udc00",
    b"\\",
    b"\"",
    b"'",
    b"{",
    b"[",
    b"null",
    b"-0",
    b"1e400",
];

#[derive(Clone, Debug)]
enum Edit {
    Nasty(usize),
    Bytes(Vec<u8>),
    /// Takes bytes away.
    Gap(usize),
    /// Repeats a part many times.
    Echo(usize, usize),
    /// Puts another seed in.
    Graft(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (0..NASTY.len()).prop_map(Edit::Nasty),
        2 => prop::collection::vec(any::<u8>(), 1..8).prop_map(Edit::Bytes),
        3 => (1usize..9).prop_map(Edit::Gap),
        1 => (1usize..20, 2usize..300).prop_map(|(length, times)| Edit::Echo(length, times)),
        1 => any::<prop::sample::Index>().prop_map(Edit::Graft),
    ]
}

/// A seed of the corpus, changed at up to four places, or as it is.
pub fn mutated(corpus: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let seeds = seeds(corpus);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), edit()), 0..5);
    (prop::sample::select(seeds.clone()), edits).prop_map(move |(mut bytes, edits)| {
        for (place, edit) in edits {
            let at = place.index(bytes.len() + 1);
            let end = |length: usize| bytes.len().min(at + length);
            let (to, new) = match edit {
                Edit::Nasty(n) => (at, NASTY[n].to_vec()),
                Edit::Bytes(bytes) => (at, bytes),
                Edit::Gap(length) => (end(length), Vec::new()),
                Edit::Echo(length, times) => (at, bytes[at..end(length)].repeat(times)),
                Edit::Graft(seed) => (at, seed.get(&seeds).clone()),
            };
            bytes.splice(at..to, new);
        }
        bytes
    })
}

/// The same as text; what is no UTF-8 becomes U+FFFD.
pub fn mutated_text(corpus: &'static str) -> impl Strategy<Value = String> {
    mutated(corpus).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
