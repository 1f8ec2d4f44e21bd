//! The completion scripts, in the shells that they are for.

use super::person::Person;
use crate::harness::PROGRAM;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn script(shell: &str) -> String {
    Person::knowing(&[]).says(&["completions", shell])
}

/// Runs a shell on `text`; what it prints.
#[track_caller]
fn shell(program: &str, args: &[&str], text: &str) -> String {
    let mut command = Command::new(program);
    let path = format!("{}:/usr/bin:/bin", Path::new(PROGRAM).parent().unwrap().display());
    command.env_clear().env("PATH", path).env("HOME", "/nonexistent").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the shell starts");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// What bash offers behind these words.
fn bash_offers(words: &[&str]) -> Vec<String> {
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let text = format!(
        "{}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_bloom_runtime\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        script("bash"),
        quoted.join(" "),
        words.len() - 1
    );
    shell("bash", &[], &text).split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    assert_eq!(bash_offers(&["bloom-runtime", "su"]), ["submit"]);
    assert_eq!(bash_offers(&["bloom-runtime", "tasks", "--st"]), ["--status"]);
    assert_eq!(bash_offers(&["bloom-runtime", "tasks", "--status", "q"]), ["queued"]);
    assert_eq!(bash_offers(&["bloom-runtime", "submit", "--agent", ""]), [""; 0]);
    assert_eq!(bash_offers(&["bloom-runtime", "completions", "f"]), ["fish"]);
    assert_eq!(
        bash_offers(&["bloom-runtime", "submit", "--file", "/etc/host"])[0][..9],
        *"/etc/host"
    );
    assert_eq!(bash_offers(&["bloom-runtime", "tasks", "--status", "$(touch /tmp/x)"]), [""; 0]);
    assert!(bash_offers(&["bloom-runtime", "serve", ""]).contains(&"--data-dir".to_owned()));
}

#[test]
fn every_command_is_in_every_script() {
    for name in ["bash", "zsh", "fish"] {
        let script = script(name);
        for command in ["submit", "tasks", "serve", "doctor", "drain"] {
            assert!(script.contains(command), "{name}: {command}");
        }
        assert!(script.contains("not-before"), "{name}");
    }
}

/// Where they are installed; `tests/run.sh` installs nothing for this.
#[test]
fn zsh_and_fish_read_their_scripts() {
    if is_there("zsh") {
        let load = format!("autoload -U compinit; compinit -D -u\n{}\n", script("zsh"));
        let registered = shell("zsh", &["-f"], &format!("{load}print $_comps[bloom-runtime]\n"));
        assert_eq!(registered, "_bloom-runtime\n");
    }
    if is_there("fish") {
        let ask = |line: &str| format!("{}\ncomplete -C '{line}'\n", script("fish"));
        let offered = shell("fish", &["--no-config"], &ask("bloom-runtime su"));
        assert!(offered.starts_with("submit\t"), "{offered}");
        let offered = shell("fish", &["--no-config"], &ask("bloom-runtime tasks --status q"));
        assert!(offered.starts_with("queued\t") && offered.lines().count() == 1, "{offered}");
    }
}
