//! The prompt that Claude gets, made of the task's own, its context and its desired format; and the
//! check of an answer that was to be JSON.
//!
//! Pure but for the files that [`super::hints`] reads. Must stay true: a prompt never begins with a
//! `/`, or Claude CLI takes it for one of its own commands (`/nosuch` "succeeds" with "Unknown
//! command"); seen with 2.1.197. Not here: flags.

use super::hints::Hint;
use serde::de::IgnoredAny;

/// What a task gives, as one text.
pub fn compose(prompt: &str, hints: &[Hint], wants_json: bool) -> String {
    let mut text = String::new();
    if !hints.is_empty() {
        text.push_str("Context for the task:\n\n");
        for hint in hints {
            match hint {
                Hint::Note(note) => text.push_str(&format!("- {note}\n")),
                Hint::File { path, text: file } => {
                    text.push_str(&format!("\n<file path={path:?}>\n{file}\n</file>\n"));
                }
            }
        }
        text.push_str("\nThe task:\n\n");
    }
    if text.is_empty() && prompt.trim_start().starts_with('/') {
        text.push('\n');
    }
    text.push_str(prompt);
    if wants_json {
        text.push_str("\n\nAnswer with a single JSON value and nothing else.");
    }
    text
}

/// The JSON of an answer, without the fence around it; or what is wrong with it.
pub fn json_in(answer: &str) -> Result<&str, String> {
    let trimmed = answer.trim();
    let fenced = trimmed.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inside = fenced.map_or(trimmed, |rest| rest.strip_prefix("json").unwrap_or(rest).trim());
    match serde_json::from_str::<IgnoredAny>(inside) {
        Ok(_) => Ok(inside),
        Err(fault) => Err(format!("JSON was asked for, but the answer is none: {fault}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_without_context_is_its_prompt_as_it_stands() {
        assert_eq!(compose("--say \"hello\"\n", &[], false), "--say \"hello\"\n");
        assert_eq!(compose("/compact", &[], false), "\n/compact", "no command of Claude CLI");
    }

    #[test]
    fn context_comes_first_and_the_wish_for_json_last() {
        let hints = [
            Hint::Note("lang: uk".into()),
            Hint::File { path: "a.md".into(), text: "the text".into() },
        ];
        let expected = "Context for the task:\n\n- lang: uk\n\n<file path=\"a.md\">\nthe text\n</file>\n\n\
                        The task:\n\n/do it\n\nAnswer with a single JSON value and nothing else.";
        assert_eq!(compose("/do it", &hints, true), expected);
    }

    #[test]
    fn json_is_taken_out_of_its_fence_and_checked() {
        for (answer, json) in [
            ("{\"a\":1}", "{\"a\":1}"),
            (" [1, 2]\n", "[1, 2]"),
            ("```json\n{\"a\": \"```\"}\n```\n", "{\"a\": \"```\"}"),
            ("```\nnull\n```", "null"),
        ] {
            assert_eq!(json_in(answer), Ok(json), "{answer}");
        }
        for answer in ["", "Here it is: {}", "{\"a\":1", "{} {}", "```json\n```", "```"] {
            assert!(json_in(answer).unwrap_err().contains("the answer is none"), "{answer}");
        }
    }
}
