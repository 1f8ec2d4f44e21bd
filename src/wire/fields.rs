//! Checking a JSON object field by field, with the messages that today's clients know.
//!
//! Must stay true: every failing check of a value is listed, up to `MESSAGES_MAX` of a field; nested
//! errors stand under their top-level field (`CONTRACT §1`); an error is never much longer than a page,
//! whatever the body (P9). Not here: which fields a route has (`decode`).

use serde_json::{Map, Value, json};

/// Messages about one field; a list of many wrong values has no more.
const MESSAGES_MAX: usize = 100;
/// Characters of a wrong value that its message repeats.
const RECEIVED_CHARS_MAX: usize = 1_000;

/// A body after its syntax is known to be good.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    Absent,
    Object(Map<String, Value>),
    Array,
}

/// Why a body's fields cannot be used: the contract's `error` object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Invalid {
    form: Vec<String>,
    fields: Map<String, Value>,
}

impl Invalid {
    pub fn to_json(&self) -> Value {
        json!({ "formErrors": self.form, "fieldErrors": self.fields })
    }

    fn of_form(message: &str) -> Self {
        Invalid { form: vec![message.into()], fields: Map::new() }
    }

    fn add(&mut self, field: &str, message: String) {
        let messages = self.fields.entry(field).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(messages) = messages
            && messages.len() < MESSAGES_MAX
        {
            messages.push(message.into());
        }
    }
}

/// Reads the fields of one object and gathers what is wrong with them. A failed field yields a
/// stand-in that nobody sees, because `finish` then gives the errors instead.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    invalid: Invalid,
}

/// Whether a value may be left out or null.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    Refused,
    /// May be left out.
    Allowed,
    /// May be left out or null.
    NullToo,
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn expected(what: &str, value: &Value) -> String {
    format!("Expected {what}, received {}", kind(value))
}

fn names<T>(words: &[(&str, T)]) -> String {
    let names: Vec<String> = words.iter().map(|(name, _)| format!("'{name}'")).collect();
    names.join(" | ")
}

/// A whole number that JSON can carry exactly, and `5.0` is one.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;

impl<'a> Fields<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Self {
        Fields { map, invalid: Invalid::default() }
    }

    /// The fields of a body that must be there.
    pub fn required(payload: &'a Payload) -> Result<Self, Invalid> {
        match payload {
            Payload::Object(map) => Ok(Fields::new(map)),
            Payload::Absent => Err(Invalid::of_form("Required")),
            Payload::Array => Err(Invalid::of_form("Expected object, received array")),
        }
    }

    /// What was decoded, unless a field was wrong.
    pub fn finish<T>(self, decoded: T) -> Result<T, Invalid> {
        if self.invalid == Invalid::default() { Ok(decoded) } else { Err(self.invalid) }
    }

    pub fn fail(&mut self, field: &str, message: impl Into<String>) {
        self.invalid.add(field, message.into());
    }

    /// A value that is of another kind than it should be.
    pub fn fail_kind(&mut self, field: &str, what: &str, value: &Value) {
        self.fail(field, expected(what, value));
    }

    /// What was wrong in an object further inside stands with what is wrong here.
    pub fn take_errors_of(&mut self, inner: Fields<'_>) {
        for (field, messages) in inner.invalid.fields {
            for message in messages.as_array().into_iter().flatten().filter_map(Value::as_str) {
                self.invalid.add(&field, message.to_owned());
            }
        }
    }

    fn present(&mut self, field: &str, absence: Absence) -> Option<&'a Value> {
        match self.map.get(field) {
            None if absence == Absence::Refused => {
                self.fail(field, "Required");
                None
            }
            Some(Value::Null) if absence == Absence::NullToo => None,
            other => other,
        }
    }

    fn text_of(&mut self, field: &str, value: Option<&'a Value>) -> Option<&'a str> {
        match value? {
            Value::String(text) => Some(text),
            other => {
                self.fail(field, expected("string", other));
                None
            }
        }
    }

    /// A text of `min` to `max` characters, counted as the original counts them (UTF-16 units).
    pub fn text(&mut self, field: &str, min: usize, max: usize) -> String {
        let value = self.present(field, Absence::Refused);
        let Some(text) = self.text_of(field, value) else { return String::new() };
        self.check_length(field, text, min, max);
        text.to_owned()
    }

    fn check_length(&mut self, field: &str, text: &str, min: usize, max: usize) {
        // A text is never longer in UTF-16 units than in bytes.
        if text.len() < min {
            self.fail(field, format!("String must contain at least {min} character(s)"));
        } else if text.len() > max && text.encode_utf16().count() > max {
            self.fail(field, format!("String must contain at most {max} character(s)"));
        }
    }

    /// A text that may be left out.
    pub fn optional_text(&mut self, field: &str, max: usize) -> Option<String> {
        let value = self.present(field, Absence::Allowed);
        let text = self.text_of(field, value)?;
        self.check_length(field, text, 0, max);
        Some(text.to_owned())
    }

    /// A text that may be left out or null.
    pub fn nullable_text(&mut self, field: &str) -> Option<String> {
        let value = self.present(field, Absence::NullToo);
        self.text_of(field, value).map(str::to_owned)
    }

    /// The same of at most `max` characters, with its errors under `top`.
    pub fn nullable_text_within(&mut self, field: &str, top: &str, max: usize) -> Option<String> {
        let Value::String(text) = self.present(field, Absence::NullToo)? else {
            self.fail(top, expected("string", &self.map[field]));
            return None;
        };
        self.check_length(top, text, 0, max);
        Some(text.clone())
    }

    /// One of these words; None when it was left out.
    pub fn word<T: Copy>(&mut self, field: &str, required: bool, words: &[(&str, T)]) -> Option<T> {
        let absence = if required { Absence::Refused } else { Absence::Allowed };
        let value = self.present(field, absence)?;
        let Value::String(text) = value else {
            self.fail(field, expected(&names(words), value));
            return None;
        };
        let found = words.iter().find(|(name, _)| name == text);
        if found.is_none() {
            self.fail_word(field, words, text);
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A text that is none of these words.
    pub fn fail_word<T>(&mut self, field: &str, words: &[(&str, T)], text: &str) {
        let (names, text) =
            (names(words), text.chars().take(RECEIVED_CHARS_MAX).collect::<String>());
        self.fail(field, format!("Invalid enum value. Expected {names}, received '{text}'"));
    }

    pub fn optional_bool(&mut self, field: &str, top: &str) -> Option<bool> {
        match self.present(field, Absence::Allowed)? {
            Value::Bool(value) => Some(*value),
            other => {
                self.fail(top, expected("boolean", other));
                None
            }
        }
    }

    /// A number of at least `min`, any fraction; None when it was left out.
    pub fn optional_number(&mut self, field: &str, top: &str, min: f64) -> Option<f64> {
        let value = self.present(field, Absence::Allowed)?;
        let Some(number) = value.as_f64() else {
            self.fail(top, expected("number", value));
            return None;
        };
        if number < min {
            self.fail(top, format!("Number must be greater than or equal to {min}"));
        }
        Some(number)
    }

    /// The same, but it may be null too.
    pub fn nullable_number(&mut self, field: &str, top: &str, min: f64) -> Option<f64> {
        self.present(field, Absence::NullToo)?;
        self.optional_number(field, top, min)
    }

    /// A whole number of this value, from `min` to `max`, with its errors under `top`.
    pub fn whole(&mut self, value: &Value, top: &str, min: u64, max: u64) -> u64 {
        let Some(number) = value.as_f64() else {
            self.fail(top, expected("number", value));
            return min;
        };
        if number.fract() != 0.0 {
            self.fail(top, "Expected integer, received float");
        }
        if number < min as f64 {
            self.fail(top, format!("Number must be greater than or equal to {min}"));
        }
        if number > max as f64 || number > EXACT_MAX {
            let max = max.min(EXACT_MAX as u64);
            self.fail(top, format!("Number must be less than or equal to {max}"));
        }
        number as u64
    }

    /// A whole number that may be left out.
    pub fn optional_whole(&mut self, field: &str, top: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.present(field, Absence::Allowed)?;
        Some(self.whole(value, top, min, max))
    }

    /// A whole number that may be left out or null.
    pub fn nullable_whole(&mut self, field: &str, top: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.present(field, Absence::NullToo)?;
        Some(self.whole(value, top, min, max))
    }

    pub fn required_whole(&mut self, field: &str, top: &str, min: u64, max: u64) -> u64 {
        match self.present(field, Absence::Allowed) {
            Some(value) => self.whole(value, top, min, max),
            None => {
                self.fail(top, "Required");
                min
            }
        }
    }

    /// A list of texts; None when it was left out.
    pub fn optional_texts(&mut self, field: &str, top: &str) -> Option<Vec<String>> {
        let value = self.present(field, Absence::Allowed)?;
        let Value::Array(items) = value else {
            self.fail(top, expected("array", value));
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => self.fail(top, expected("string", other)),
            }
        }
        Some(texts)
    }

    /// A short list of short words, which would otherwise be rewritten at length (P9).
    pub fn optional_labels(&mut self, field: &str, top: &str) -> Option<Vec<String>> {
        const LABELS_MAX: usize = 64;
        const LABEL_CHARS_MAX: usize = 128;
        let labels = self.optional_texts(field, top)?;
        if labels.len() > LABELS_MAX {
            self.fail(top, format!("Array must contain at most {LABELS_MAX} element(s)"));
        }
        for label in &labels {
            self.check_length(top, label, 0, LABEL_CHARS_MAX);
        }
        Some(labels)
    }

    /// An object inside this one, whose errors are to be gathered under `field`.
    pub fn object(&mut self, field: &str, required: bool) -> Option<&'a Map<String, Value>> {
        let absence = if required { Absence::Refused } else { Absence::Allowed };
        match self.present(field, absence)? {
            Value::Object(map) => Some(map),
            other => {
                self.fail(field, expected("object", other));
                None
            }
        }
    }

    /// Reads the fields of an inner object with this one's errors.
    pub fn within<T>(
        &mut self,
        map: &'a Map<String, Value>,
        read: impl FnOnce(&mut Fields<'a>) -> T,
    ) -> T {
        let mut inner = Fields { map, invalid: std::mem::take(&mut self.invalid) };
        let read = read(&mut inner);
        self.invalid = inner.invalid;
        read
    }

    /// A field as it came.
    pub fn raw(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field)
    }
}
