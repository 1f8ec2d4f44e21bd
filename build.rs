//! Packs the page (`web/`) into the program: its modules as one script, everything without comments,
//! each file as it is and gzipped, and one hash over all sources.
//!
//! Must stay true: the same files give the same bytes; `/ui/-/` in them becomes `/ui/<hash>/`; what
//! cannot be packed ends the build with its place. Not here: how it is served (`http::ui`).

#[path = "build/modules.rs"]
mod modules;
#[path = "build/slim.rs"]
mod slim;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What is packed; a README is not.
const KINDS: [&str; 5] = ["html", "css", "js", "json", "svg"];
const SCRIPT: &str = "app.js";

#[allow(clippy::disallowed_methods, reason = "cargo tells by it where a build script may write")]
fn main() {
    println!("cargo:rerun-if-changed=web");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    if let Err(why) = read().and_then(|web| write(&out, &packed(web)?).map_err(|e| e.to_string())) {
        println!("cargo::error={why}");
    }
}

/// The page's sources by their path in `web/`.
fn read() -> Result<BTreeMap<String, String>, String> {
    let mut web = BTreeMap::new();
    let mut open = vec![PathBuf::from("web")];
    while let Some(path) = open.pop() {
        let failed = |why: io::Error| format!("{}: {why}", path.display());
        if path.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed)? {
                open.push(entry.map_err(failed)?.path());
            }
        } else if path.extension().is_some_and(|kind| KINDS.iter().any(|known| kind == *known)) {
            let name = path.strip_prefix("web").expect("gathered there").display().to_string();
            web.insert(name, fs::read_to_string(&path).map_err(failed)?);
        }
    }
    Ok(web)
}

struct Packed {
    hash: String,
    files: BTreeMap<String, String>,
}

fn packed(web: BTreeMap<String, String>) -> Result<Packed, String> {
    let hash = hash(&web);
    let mut scripts = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (name, text) in web {
        match Path::new(&name).extension().and_then(|kind| kind.to_str()) {
            Some("js") => drop(scripts.insert(name.clone(), slim::script(&name, &text)?)),
            Some("css") => drop(files.insert(name, slim::style(&text))),
            Some("json") => drop(files.insert(name, slim::words(&text))),
            _ => drop(files.insert(name, text)),
        }
    }
    files.insert(SCRIPT.to_owned(), modules::join(SCRIPT, &scripts)?);
    for text in files.values_mut() {
        *text = text.replace("/ui/-/", &format!("/ui/{hash}/"));
    }
    Ok(Packed { hash, files })
}

fn hash(web: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for part in web.iter().flat_map(|(name, text)| [name, text]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the files, and `page.rs` that includes them.
fn write(out: &Path, Packed { hash, files }: &Packed) -> io::Result<()> {
    let mut list = format!("const HASH: &str = {hash:?};\nconst FILES: &[Packed] = &[\n");
    for (number, (name, text)) in files.iter().enumerate() {
        let (raw, gzip) = (out.join(format!("{number}")), out.join(format!("{number}.gz")));
        fs::write(&raw, text)?;
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(text.as_bytes())?;
        fs::write(&gzip, packer.finish()?)?;
        let entry = format!("Packed {{ name: {name:?}, gzip: include_bytes!({gzip:?}) }},");
        writeln!(list, "    {entry}").expect("a string takes everything");
    }
    fs::write(out.join("page.rs"), list + "];\n")
}
