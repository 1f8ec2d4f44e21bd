//! Settings of each kind of agent, from the file that `--agents` names: how Claude is to run for a
//! task of that `agent_slug`.
//!
//! JSON: an object of slugs, each with [`Settings`]; what a slug leaves out is taken from `default`.
//! Must stay true: without a word of the operator Claude has no tools and no rights; what cannot be
//! right is refused at the start and not at a task. Not here: reading the file (`config`).

use serde::Deserialize;
use std::collections::BTreeMap;

/// The settings that every other falls back on.
const DEFAULT: &str = "default";
/// An argument cannot be much longer on any system.
const PROMPT_BYTES_MAX: usize = 64 * 1024;
const TOOLS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 200;
const MODES: [&str; 6] = ["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan"];

/// How Claude runs for one agent; what is absent is Claude CLI's own default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub model: Option<String>,
    /// Rules of Claude CLI such as `Read` or `Bash(git log *)`. Only these tools are there, and they are
    /// not asked about. None: no tools.
    pub allowed_tools: Option<Vec<String>>,
    pub permission_mode: Option<String>,
    /// Instead of Claude CLI's own system prompt.
    pub system_prompt: Option<String>,
    /// Behind the system prompt.
    pub append_system_prompt: Option<String>,
    /// The longest that a task of this agent may take, whatever the task asks for.
    pub timeout_sec: Option<u64>,
}

/// The settings of all agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    default: Settings,
    by_slug: BTreeMap<String, Settings>,
}

impl Agents {
    /// Reads the file's text. Errors: what is wrong, in one line.
    pub fn parse(text: &str) -> Result<Agents, String> {
        let mut by_slug: BTreeMap<String, Settings> =
            serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        for (slug, settings) in &by_slug {
            settings.check().map_err(|fault| format!("agent {slug:?}: {fault}"))?;
        }
        let default = by_slug.remove(DEFAULT).unwrap_or_default();
        for settings in by_slug.values_mut() {
            settings.fill_from(&default);
        }
        Ok(Agents { default, by_slug })
    }

    pub fn of(&self, agent_slug: &str) -> &Settings {
        self.by_slug.get(agent_slug).unwrap_or(&self.default)
    }

    /// The agents that may do anything without being asked; the start says so.
    pub fn unguarded(&self) -> Vec<&str> {
        let named = self.by_slug.iter().map(|(slug, settings)| (slug.as_str(), settings));
        let all = named.chain([(DEFAULT, &self.default)]);
        let unguarded =
            |settings: &Settings| settings.permission_mode.as_deref() == Some("bypassPermissions");
        all.filter(|(_, settings)| unguarded(settings)).map(|(slug, _)| slug).collect()
    }
}

impl Settings {
    /// The flags that these settings are.
    pub fn arguments(&self) -> Vec<String> {
        let rules = self.allowed_tools.as_deref().unwrap_or_default();
        let mut names: Vec<&str> = rules.iter().map(|rule| tool_of(rule)).collect();
        names.retain(|name| !name.starts_with("mcp__"));
        names.dedup();
        let mut arguments = vec![format!("--tools={}", names.join(","))];
        if rules.is_empty() {
            // Tools of the machine's own MCP servers are tools too.
            arguments.push("--strict-mcp-config".into());
        } else {
            arguments.push(format!("--allowedTools={}", rules.join(",")));
        }
        let named = [
            ("--model", &self.model),
            ("--permission-mode", &self.permission_mode),
            ("--system-prompt", &self.system_prompt),
            ("--append-system-prompt", &self.append_system_prompt),
        ];
        let given = named.iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?)));
        arguments.extend(given.map(|(flag, value)| format!("{flag}={value}")));
        arguments
    }

    fn fill_from(&mut self, default: &Settings) {
        let Settings { model, allowed_tools, permission_mode, .. } = default;
        self.model = self.model.take().or_else(|| model.clone());
        self.allowed_tools = self.allowed_tools.take().or_else(|| allowed_tools.clone());
        self.permission_mode = self.permission_mode.take().or_else(|| permission_mode.clone());
        let Settings { system_prompt, append_system_prompt, timeout_sec, .. } = default;
        self.system_prompt = self.system_prompt.take().or_else(|| system_prompt.clone());
        self.append_system_prompt =
            self.append_system_prompt.take().or_else(|| append_system_prompt.clone());
        self.timeout_sec = self.timeout_sec.or(*timeout_sec);
    }

    fn check(&self) -> Result<(), String> {
        let plain = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_alphanumeric())
                && text.len() <= NAME_BYTES_MAX
                && !text.contains(char::is_control)
        };
        if let Some(model) = self.model.as_ref().filter(|model| !plain(model)) {
            return Err(format!("model {model:?} is no name of a model, such as \"sonnet\""));
        }
        let rules = self.allowed_tools.as_deref().unwrap_or_default();
        if rules.len() > TOOLS_MAX {
            return Err(format!("allowed_tools has more than {TOOLS_MAX} rules"));
        }
        if let Some(rule) = rules.iter().find(|rule| !plain(rule) || rule.contains(',')) {
            return Err(format!("allowed_tools {rule:?} is no rule such as \"Bash(git log *)\""));
        }
        if let Some(mode) = &self.permission_mode
            && !MODES.contains(&mode.as_str())
        {
            return Err(format!("permission_mode {mode:?} is none of {}", MODES.join(", ")));
        }
        for prompt in [&self.system_prompt, &self.append_system_prompt].into_iter().flatten() {
            if prompt.len() > PROMPT_BYTES_MAX || prompt.contains('\0') {
                let limit = PROMPT_BYTES_MAX / 1024;
                return Err(format!("a system prompt is longer than {limit} KiB or has a NUL"));
            }
        }
        match self.timeout_sec {
            Some(seconds) if !(1..=3600).contains(&seconds) => {
                Err(format!("timeout_sec {seconds} is not from 1 to 3600"))
            }
            _ => Ok(()),
        }
    }
}

/// `Bash` of `Bash(git log *)`.
fn tool_of(rule: &str) -> &str {
    rule.split_once('(').map_or(rule, |(tool, _)| tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_there_are_no_tools_and_no_rights() {
        assert_eq!(Agents::default().of("any").arguments(), ["--tools=", "--strict-mcp-config"]);
    }

    #[test]
    fn a_slug_takes_from_default_what_it_does_not_say() {
        let agents = Agents::parse(
            r#"{"default": {"model": "sonnet", "timeout_sec": 60},
                "reviewer": {"model": "opus", "allowed_tools": ["Read", "Bash(git log *)", "Bash(ls)", "mcp__x__y"],
                             "permission_mode": "plan", "append_system_prompt": "--be brief"},
                "mute": {"allowed_tools": []}}"#,
        )
        .unwrap();
        let expected = [
            "--tools=Read,Bash",
            "--allowedTools=Read,Bash(git log *),Bash(ls),mcp__x__y",
            "--model=opus",
            "--permission-mode=plan",
            "--append-system-prompt=--be brief",
        ];
        assert_eq!(agents.of("reviewer").arguments(), expected);
        assert_eq!(agents.of("reviewer").timeout_sec, Some(60));
        let quiet = ["--tools=", "--strict-mcp-config", "--model=sonnet"];
        assert_eq!(agents.of("mute").arguments(), quiet);
        assert_eq!(agents.of("unknown").arguments(), quiet);
        assert_eq!(agents.unguarded(), [""; 0]);
    }

    #[test]
    fn an_agent_without_guards_is_named() {
        let text = r#"{"yolo": {"permission_mode": "bypassPermissions"}}"#;
        assert_eq!(Agents::parse(text).unwrap().unguarded(), ["yolo"]);
    }

    #[test]
    fn a_fault_is_named_in_one_line() {
        for (text, fault) in [
            ("", "EOF"),
            ("[]", "expected a map"),
            (r#"{"a": {"modell": "x"}}"#, "unknown field `modell`"),
            (r#"{"a": {"timeout_sec": "x"}}"#, "invalid type"),
            (r#"{"a": {"model": "--x"}}"#, "agent \"a\": model \"--x\""),
            (r#"{"a": {"allowed_tools": ["Read,Bash"]}}"#, "allowed_tools \"Read,Bash\""),
            (r#"{"a": {"allowed_tools": ["-x"]}}"#, "allowed_tools \"-x\""),
            (r#"{"a": {"permission_mode": "yes"}}"#, "none of acceptEdits"),
            (r#"{"a": {"timeout_sec": 0}}"#, "not from 1 to 3600"),
            (r#"{"a": {"system_prompt": "\u0000"}}"#, "has a NUL"),
        ] {
            let said = Agents::parse(text).unwrap_err();
            assert!(said.contains(fault) && !said.contains('\n'), "{text}: {said}");
        }
    }
}
