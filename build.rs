//! Packs the page (`web/`) into the program: each file as it is and gzipped, and one hash over all of them.
//!
//! Must stay true: the same files give the same bytes; whatever of the known kinds lies in `web/` is
//! packed. `/ui/-/` in `index.html` becomes `/ui/<hash>/`. Not here: how it is served (`http::ui`).

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What is packed; a README is not.
const KINDS: [&str; 6] = ["html", "css", "js", "json", "svg", "png"];
const INDEX: &str = "index.html";

#[allow(clippy::disallowed_methods, reason = "cargo tells by it where a build script may write")]
fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=web");
    let mut files = Vec::new();
    gather(Path::new("web"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    let mut read = Vec::new();
    for path in files {
        let bytes = fs::read(&path)?;
        let name = path.strip_prefix("web").expect("gathered there").display().to_string();
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(&name);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
        read.push((name, bytes));
    }
    let hash: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut list = format!("const HASH: &str = {hash:?};\nconst FILES: &[Packed] = &[\n");
    for (number, (name, mut bytes)) in read.into_iter().enumerate() {
        if name == INDEX {
            let text = String::from_utf8(bytes).map_err(io::Error::other)?;
            bytes = text.replace("/ui/-/", &format!("/ui/{hash}/")).into_bytes();
        }
        let (raw, gzip) = (out.join(format!("{number}")), out.join(format!("{number}.gz")));
        fs::write(&raw, &bytes)?;
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&bytes)?;
        fs::write(&gzip, packer.finish()?)?;
        let entry = format!(
            "Packed {{ name: {name:?}, raw: include_bytes!({raw:?}), gzip: include_bytes!({gzip:?}) }},"
        );
        writeln!(list, "    {entry}").expect("a string takes everything");
    }
    fs::write(out.join("page.rs"), list + "];\n")
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, files)?;
        } else if path.extension().is_some_and(|kind| KINDS.iter().any(|known| kind == *known)) {
            files.push(path);
        }
    }
    Ok(())
}
