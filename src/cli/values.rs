//! What the values of flags may be, said in the words of who wrote a wrong one.

/// The statuses of a task, as `--status` takes them.
pub const STATUSES: [&str; 7] =
    ["queued", "leased", "running", "completed", "failed", "dead", "cancelled"];
/// The shells that `completions` knows.
pub const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

pub fn priority(value: &str) -> Result<u8, String> {
    value.parse().ok().filter(|n| *n <= 9).ok_or_else(|| "it is not a number from 0 to 9".into())
}

pub fn timeout(value: &str) -> Result<u32, String> {
    let seconds = value.parse().ok().filter(|n| (1..=3600).contains(n));
    seconds.ok_or_else(|| "it is not a number of seconds from 1 to 3600".into())
}

pub fn budget(value: &str) -> Result<f64, String> {
    let dollars = value.parse().ok().filter(|usd: &f64| usd.is_finite() && *usd >= 0.0);
    dollars.ok_or_else(|| "it is not an amount such as 0.50".into())
}

pub fn limit(value: &str) -> Result<usize, String> {
    let rows = value.parse().ok().filter(|n| (1..=10_000).contains(n));
    rows.ok_or_else(|| "it is not a number from 1 to 10000".into())
}

pub fn status(value: &str) -> Result<String, String> {
    one_of(value, &STATUSES)
}

pub fn shell(value: &str) -> Result<String, String> {
    one_of(value, &SHELLS)
}

fn one_of(value: &str, words: &[&str]) -> Result<String, String> {
    match words.contains(&value) {
        true => Ok(value.to_owned()),
        false => Err(format!("it is none of {}", words.join(", "))),
    }
}
