//! The page's words: English and Ukrainian say the same things, and every error has a text.
//!
//! Not here: whether the words are good.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn words(language: &str) -> Map<String, Value> {
    let text = read(&format!("web/i18n/{language}.json"));
    let words: Value = serde_json::from_str(&text).expect("the words are JSON");
    let words = words.as_object().expect("an object").clone();
    assert_eq!(words.len(), text.matches("\": ").count() - forms(&words), "a key stands twice");
    words
}

/// How many plural forms there are beside the keys.
fn forms(words: &Map<String, Value>) -> usize {
    words.values().filter_map(Value::as_object).map(Map::len).sum()
}

/// The names that a text wants filled in.
fn places(text: &str) -> BTreeSet<&str> {
    let parts = text.split('{').skip(1);
    parts.filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect()
}

fn texts(word: &Value) -> Vec<&str> {
    match word {
        Value::String(text) => vec![text],
        Value::Object(forms) => forms.values().filter_map(Value::as_str).collect(),
        other => panic!("neither a text nor plural forms: {other}"),
    }
}

fn plural_forms(word: &Value) -> Vec<&str> {
    word.as_object().map(|forms| forms.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn both_languages_have_the_same_keys_places_and_plurals() {
    let (english, ukrainian) = (words("en"), words("uk"));
    let keys = |words: &Map<String, Value>| words.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&english), keys(&ukrainian));
    for (key, word) in &english {
        let other = &ukrainian[key];
        let wanted: BTreeSet<_> = texts(word).into_iter().flat_map(places).collect();
        for text in texts(word).into_iter().chain(texts(other)) {
            assert!(!text.trim().is_empty(), "{key} is empty");
            assert_eq!(places(text), wanted, "{key}: {text}");
        }
        let forms: BTreeSet<_> = plural_forms(word).into_iter().collect();
        let others: BTreeSet<_> = plural_forms(other).into_iter().collect();
        if forms.is_empty() {
            assert!(others.is_empty(), "{key} has plural forms in Ukrainian alone");
        } else {
            assert_eq!(forms, ["one", "other"].into(), "{key}");
            assert_eq!(others, ["few", "many", "one", "other"].into(), "{key}");
        }
    }
}

/// The codes of the tables in docs/API.md, and those that the catalogue itself names.
fn codes() -> BTreeSet<String> {
    let manual = read("docs/API.md");
    let named = manual.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, status, code, ..] = cells.as_slice() else { return None };
        let fails = status.starts_with(['4', '5']) || *status == "Membridge's status";
        code.strip_prefix('`')?.strip_suffix('`').filter(|code| fails && is_code(code))
    });
    let catalogue = read("src/http/error.rs");
    let literals = catalogue.split('"').skip(1).step_by(2);
    let literals = literals.filter(|word| is_code(word) && word.contains('_'));
    named.chain(literals).map(str::to_owned).collect()
}

/// The codes by which attempts fail, as docs/API.md lists them.
fn failures() -> BTreeSet<String> {
    let manual = read("docs/API.md");
    let (_, after) = manual.split_once("#### Codes of failures").expect("the section");
    let (section, _) = after.split_once("\n#").expect("an end");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`')).filter(|word| is_code(word)).map(str::to_owned).collect()
}

fn is_code(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
}

#[test]
fn every_error_code_has_a_text_in_both_languages() {
    let codes = codes();
    assert!(codes.len() > 60, "the codes were not found: {codes:?}");
    for language in ["en", "uk"] {
        let words = words(language);
        let missing = |code: &&String| !words.contains_key(&format!("error.{code}"));
        assert_eq!(codes.iter().filter(missing).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}

#[test]
fn every_failure_of_an_attempt_has_a_text() {
    let failures = failures();
    assert!(failures.len() > 20, "the codes were not found: {failures:?}");
    let words = words("en");
    let missing = |code: &&String| !words.contains_key(&format!("code.{code}"));
    assert_eq!(failures.iter().filter(missing).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn every_word_that_the_page_asks_for_exists() {
    let words = words("en");
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("web")];
    let mut asked = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "js") {
                let text = std::fs::read_to_string(&path).expect("text");
                for (at, _) in text.match_indices("t(\"") {
                    let letter = text[..at].chars().next_back();
                    if letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '.') {
                        continue;
                    }
                    let key = text[at + 3..].split('"').next().expect("a literal ends");
                    assert!(words.contains_key(key), "{}: {key}", path.display());
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 200, "only {asked} found");
}
