//! The packing of the page: modules become one script that does the same, or the build says where not.
//!
//! Not here: whether the packed page works (tests/browser).

#[path = "../../../build/modules.rs"]
mod modules;
#[path = "../../../build/slim.rs"]
mod slim;

use std::collections::BTreeMap;

fn joined(files: &[(&str, &str)]) -> Result<String, String> {
    let owned = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    modules::join("app.js", &owned.collect::<BTreeMap<_, _>>())
}

#[track_caller]
fn refused(files: &[(&str, &str)]) -> String {
    joined(files).expect_err("it is refused")
}

#[test]
fn a_module_stands_after_what_it_imports_and_gives_what_it_exports() {
    let script = joined(&[
        (
            "app.js",
            "import { view as a } from \"./js/a.js\";\nimport * as b from \"./js/b.js\";\na(b);\n",
        ),
        ("js/a.js", "import { two } from \"./b.js\";\nexport function view(x) {}\n"),
        ("js/b.js", "const one = 1;\nexport const two = one;\nexport class Three {}\n"),
    ]);
    let expected = "const m0 = (() => {\nconst one = 1;\nconst two = one;\nclass Three {}\nreturn { two, Three };\n})();\n\
         const m1 = (() => {\nconst { two } = m0;\nfunction view(x) {}\nreturn { view };\n})();\n\
         const m2 = (() => {\nconst { view: a } = m1;\nconst b = m0;\na(b);\nreturn {  };\n})();\n";
    assert_eq!(script.as_deref(), Ok(expected));
}

#[test]
fn what_cannot_be_joined_is_refused_with_its_place() {
    for line in [
        "import x from \"./js/a.js\";",
        "import \"./js/a.js\";",
        "import { a } from './js/a.js';",
        "import {",
        "export default 1;",
        "export let n = 1;",
        "export { a };",
        "export * from \"./js/a.js\";",
        "const late = await import(`./js/${name}.js`);",
        "const here = import.meta.url;",
    ] {
        let text = format!("go();\n{line}\n");
        let why = refused(&[("app.js", &text), ("js/a.js", "export const a = 1;")]);
        assert!(why.starts_with("web/app.js:2: ") && why.ends_with(line), "{why}");
    }
    let import = "import { a } from \"./js/a.js\";";
    assert_eq!(refused(&[("app.js", import)]), "web/js/a.js: there is no such module");
    let circle = "import { b } from \"../app.js\";\nexport const a = 1;";
    let why = refused(&[("app.js", import), ("js/a.js", circle)]);
    assert_eq!(why, "web/app.js: it imports itself over others");
    let why = refused(&[("app.js", "go();"), ("js/a.js", "")]);
    assert_eq!(why, "web/js/a.js: nothing imports it");
}

#[test]
fn comments_and_blanks_go_and_texts_stay() {
    let script = "// What it is.\n/** Says\n *  more. */\nconst a = \"// no comment\"; // stays\n\n  go(`/* ${a} */`);\n";
    let slim = slim::script("a.js", script);
    assert_eq!(slim.as_deref(), Ok("const a = \"// no comment\"; // stays\ngo(`/* ${a} */`);\n"));
    let style = "/* One\n   two */\na { color: red; }\n/* three */\n  b { top: 0; }\n";
    assert_eq!(slim::style(style), "a { color: red; }\nb { top: 0; }\n");
    assert_eq!(
        slim::words("{\n  \"a\": \"b  c\",\n  \"d\": \"e\"\n}\n"),
        "{\"a\": \"b  c\",\"d\": \"e\"}"
    );
    let why = slim::script("a.js", "go();\nconst a = `one\n  two`;\n");
    assert_eq!(why, Err("web/a.js:2: a text over several lines".to_owned()));
}
