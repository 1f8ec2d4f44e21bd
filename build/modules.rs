//! Joins the page's modules into one script: each becomes a function that runs once, after those it
//! imports from, and gives what it exports.
//!
//! Must stay true: the joined script does what the modules do, or the build ends with the file and line
//! that it does not know; names in one module never meet those of another. Known are, each on one line,
//! `import { a, b as c } from "./x.js";`, `import * as x from "./x.js";`, and `export` before `const`,
//! `function`, `async function` and `class`. Not here: what is dropped to make it small (`slim`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The script that `root` and all that it imports make. `modules` are texts by their path in `web/`.
pub fn join(root: &str, modules: &BTreeMap<String, String>) -> Result<String, String> {
    let mut joined = Joined { modules, order: Vec::new(), open: Vec::new(), script: String::new() };
    joined.add(root)?;
    match modules.keys().find(|name| !joined.order.contains(name)) {
        Some(unused) => Err(format!("web/{unused}: nothing imports it")),
        None => Ok(joined.script),
    }
}

struct Joined<'a> {
    modules: &'a BTreeMap<String, String>,
    /// What is in the script; the place gives the name there.
    order: Vec<&'a String>,
    /// What waits for its imports.
    open: Vec<&'a String>,
    script: String,
}

impl<'a> Joined<'a> {
    /// Appends a module, unless it is there; gives its name in the script.
    fn add(&mut self, name: &str) -> Result<String, String> {
        let found = self.modules.get_key_value(name);
        let (name, text) = found.ok_or_else(|| format!("web/{name}: there is no such module"))?;
        if let Some(place) = self.order.iter().position(|known| *known == name) {
            return Ok(format!("m{place}"));
        }
        if self.open.contains(&name) {
            return Err(format!("web/{name}: it imports itself over others"));
        }
        self.open.push(name);
        let (mut body, mut exports) = (String::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let at = |why: &str| format!("web/{name}:{}: {why}: {line}", number + 1);
            if line.starts_with("import") {
                let (what, from) = imported(line).ok_or_else(|| at("an import of unknown form"))?;
                let module = self.add(&beside(name, from))?;
                writeln!(body, "const {what} = {module};").expect(TAKES_ALL);
            } else if let Some(exported) = line.strip_prefix("export ") {
                exports.push(declared(exported).ok_or_else(|| at("an export of unknown form"))?);
                writeln!(body, "{exported}").expect(TAKES_ALL);
            } else if line.contains("import(") || line.contains("import.meta") {
                return Err(at("only a module that stands alone can do that"));
            } else {
                writeln!(body, "{line}").expect(TAKES_ALL);
            }
        }
        self.open.pop();
        let module = format!("m{}", self.order.len());
        self.order.push(name);
        let exports = exports.join(", ");
        write!(self.script, "const {module} = (() => {{\n{body}return {{ {exports} }};\n}})();\n")
            .expect(TAKES_ALL);
        Ok(module)
    }
}

const TAKES_ALL: &str = "a string takes everything";

/// What an import binds, as a pattern of `const`, and the path it names.
fn imported(line: &str) -> Option<(String, &str)> {
    let (what, from) = line.strip_prefix("import ")?.strip_suffix("\";")?.split_once(" from \"")?;
    let is_list = what.starts_with("{ ") && what.ends_with(" }");
    let what = match what.strip_prefix("* as ") {
        Some(whole) if is_name(whole) => whole.to_owned(),
        None if is_list => what.replace(" as ", ": "),
        _ => return None,
    };
    Some((what, from))
}

/// The name that an export declares. `let` is not among them: a copy would not follow it.
fn declared(exported: &str) -> Option<&str> {
    let kinds = ["const ", "function ", "async function ", "class "];
    let rest = kinds.iter().find_map(|kind| exported.strip_prefix(kind))?;
    let name = rest.split([' ', '(']).next()?;
    is_name(name).then_some(name)
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// The path that `./x.js` or `../x.js` in a module means.
fn beside(module: &str, path: &str) -> String {
    let mut parts: Vec<&str> = module.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}
