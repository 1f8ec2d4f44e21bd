//! The settings as they were read, to tell later which of them have changed.
//!
//! What must stay true: it holds secrets, so nothing leads from it to a text but names (P10). Not here:
//! what a value means, and which change counts without a restart (`run::reload`).

use std::collections::BTreeMap;

use super::Secret;

/// Each setting that was asked for and found, with its value.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<String, Secret>);

impl Values {
    pub(super) fn note(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), Secret::new(value));
    }

    /// The names whose value is another in `now`, or stands in one of the two only.
    pub fn changed(&self, now: &Values) -> Vec<String> {
        let names = self.0.keys().chain(now.0.keys().filter(|name| !self.0.contains_key(*name)));
        let is_same = |name: &String| match (self.0.get(name), now.0.get(name)) {
            (Some(before), Some(now)) => before.matches(now.expose().as_bytes()),
            _ => false,
        };
        let mut changed: Vec<String> = names.filter(|name| !is_same(name)).cloned().collect();
        changed.sort_unstable();
        changed
    }

    /// Takes the value of one setting over from `now`.
    pub fn adopt(&mut self, name: &str, now: &Values) {
        match now.0.get(name) {
            Some(value) => self.0.insert(name.to_owned(), value.clone()),
            None => self.0.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        let mut values = Values::default();
        pairs.iter().for_each(|(name, value)| values.note(name, value));
        values
    }

    #[test]
    fn another_value_a_new_one_and_one_that_is_gone_are_changes() {
        let mut before = values(&[("PORT", "1"), ("HOST", "a"), ("NODE_ENV", "x")]);
        let now = values(&[("PORT", "1"), ("HOST", "b"), ("DATA_DIR", "/d")]);
        assert_eq!(before.changed(&now), ["DATA_DIR", "HOST", "NODE_ENV"]);
        before.adopt("HOST", &now);
        before.adopt("NODE_ENV", &now);
        assert_eq!(before.changed(&now), ["DATA_DIR"]);
        assert!(!format!("{before:?}").contains("/d"));
    }
}
