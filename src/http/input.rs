//! What a request says: the parameters of its query, the fields of its JSON body.

use std::ops::RangeInclusive;

use actix_web::HttpRequest;
use serde_json::{Map, Value};

use super::error::ApiError;

/// How many rows a list can leave out at most: more than anybody has, and nothing that a sum could overflow with.
pub(super) const MAX_OFFSET: i64 = 1_000_000_000;
/// Longest text of a message, in characters; the platform may take less.
pub(super) const MAX_TEXT: usize = 10_000;

/// The parameters of a query string. Of a repeated one the last counts.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Those of the request.
    pub(super) fn of(request: &HttpRequest) -> Self {
        Self::parse(request.query_string())
    }

    fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// A parameter's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().rev();
        values.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A whole number, or none when the parameter is absent.
    ///
    /// # Errors
    /// 400 when it is anything else, or out of range.
    pub(super) fn number(&self, name: &'static str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        self.read(name, range, i64::MAX)
    }

    /// As [`Query::number`], but more than the most counts as the most: who asks for much gets what there is at once.
    ///
    /// # Errors
    /// 400 when it is no whole number, or less than the least.
    pub(super) fn at_most(&self, name: &'static str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let most = *range.end();
        self.read(name, range, most)
    }

    fn read(&self, name: &'static str, range: RangeInclusive<i64>, most: i64) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Digits that are no number are too many of them.
        let number = is_plain.then(|| text.parse().unwrap_or(i64::MAX).min(most));
        let number = number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (first, last) = (range.start(), range.end());
            ApiError::bad_request(format!("{name} must be a whole number from {first} to {last}"))
        })?;
        Ok(Some(number))
    }
}

/// What is wrong with the fields of a body: each field's name and the sentences about it.
#[derive(Debug, Default, PartialEq)]
pub struct FieldErrors(pub Map<String, Value>);

impl FieldErrors {
    /// Adds a sentence about a field.
    pub(super) fn add(&mut self, field: &str, sentence: impl Into<String>) {
        let sentences = self.0.entry(field).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(sentences) = sentences {
            sentences.push(Value::String(sentence.into()));
        }
    }

    /// The value, unless something is wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Self::invalid_fields(errors.0)
    }
}

/// Reads the fields of a JSON object one by one and collects what is wrong with them.
pub(super) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    pub(super) errors: FieldErrors,
}

impl<'a> Fields<'a> {
    /// The fields of a body, which must be an object.
    pub(super) fn of(body: &'a Value) -> Self {
        let mut errors = FieldErrors::default();
        let kind = match body {
            Value::Object(_) => None,
            Value::Array(_) => Some("list"),
            Value::String(_) => Some("str"),
            Value::Number(_) => Some("number"),
            Value::Bool(_) => Some("bool"),
            Value::Null => Some("null"),
        };
        if let Some(kind) = kind {
            let sentence = format!("Invalid data. Expected a dictionary, but got {kind}.");
            errors.add(ApiError::WHOLE_BODY, sentence);
        }
        Self {
            object: body.as_object(),
            errors,
        }
    }

    /// A field's value under the first of its names that is there.
    pub(super) fn value(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        let object = self.object?;
        names.iter().find_map(|name| Some((*name, object.get(*name)?)))
    }

    /// An optional text without space around it; null counts as absent.
    pub(super) fn optional(&mut self, names: &[&'static str], max: usize) -> Option<&'a str> {
        match self.value(names)? {
            (_, Value::Null) => None,
            (name, value) => self.check(name, value, max),
        }
    }

    /// A text that must be there, without space around it and not empty.
    pub(super) fn required(&mut self, name: &'static str, max: usize) -> Option<&'a str> {
        match self.value(&[name]) {
            Some((_, Value::Null)) => self.errors.add(name, "This field may not be null."),
            Some((_, value)) => return self.check(name, value, max),
            None if self.object.is_some() => self.errors.add(name, "This field is required."),
            None => {}
        }
        None
    }

    /// As [`Fields::required`]; a number counts as its digits.
    pub(super) fn required_or_number(&mut self, name: &'static str, max: usize) -> Option<String> {
        match self.value(&[name]) {
            Some((_, Value::Number(number))) => Some(number.to_string()),
            _ => self.required(name, max).map(str::to_owned),
        }
    }

    fn check(&mut self, name: &'static str, value: &'a Value, max: usize) -> Option<&'a str> {
        let Some(text) = value.as_str() else {
            self.errors.add(name, "Not a valid string.");
            return None;
        };
        // PostgreSQL has no text with them.
        if text.contains('\0') {
            self.errors.add(name, "Null characters are not allowed.");
            return None;
        }
        let text = text.trim();
        if text.is_empty() {
            self.errors.add(name, "This field may not be blank.");
            return None;
        }
        if text.chars().nth(max).is_some() {
            let sentence = format!("Ensure this field has no more than {max} characters.");
            self.errors.add(name, sentence);
            return None;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_whole_and_in_range() {
        let query = Query::parse("limit=7&offset=&a=-1&b=%2B1&c=1.0&d=99999999999999999999&limit=8");
        assert_eq!(query.number("limit", 1..=200).ok(), Some(Some(8)));
        assert_eq!(query.number("absent", 1..=200).ok(), Some(None));
        for name in ["offset", "a", "b", "c", "d"] {
            assert!(query.number(name, 0..=MAX_OFFSET).is_err(), "{name}");
        }
        assert!(query.number("limit", 1..=7).is_err());
    }

    #[test]
    fn who_asks_for_too_much_gets_the_most() {
        for (query, expected) in [
            ("limit=200", Some(200)),
            ("limit=1000", Some(200)),
            ("limit=99999999999999999999", Some(200)),
            ("limit=0", None),
            ("limit=-1", None),
            ("limit=x", None),
        ] {
            assert_eq!(
                Query::parse(query).at_most("limit", 1..=200).ok().flatten(),
                expected,
                "{query}"
            );
        }
    }

    #[test]
    fn fields_tell_what_is_wrong_with_them() {
        let body = json!({"a": " x ", "b": null, "c": "  ", "d": 5, "e": "long", "g": "a\0b", "h": 12, "i": []});
        let mut fields = Fields::of(&body);
        assert_eq!(fields.required("a", 10), Some("x"));
        assert_eq!(fields.optional(&["B", "b"], 10), None);
        assert_eq!(fields.required_or_number("h", 10).as_deref(), Some("12"));
        assert_eq!(fields.required_or_number("i", 10), None);
        for name in ["b", "c", "d", "f", "g"] {
            assert_eq!(fields.required(name, 10), None);
        }
        assert_eq!(fields.optional(&["E", "e"], 3), None);
        let expected = json!({
            "b": ["This field may not be null."],
            "c": ["This field may not be blank."],
            "d": ["Not a valid string."],
            "e": ["Ensure this field has no more than 3 characters."],
            "f": ["This field is required."],
            "g": ["Null characters are not allowed."],
            "i": ["Not a valid string."],
        });
        assert_eq!(Value::Object(fields.errors.0), expected);
    }

    #[test]
    fn a_body_that_is_no_object_is_one_error() {
        let mut fields = Fields::of(&Value::Null);
        assert_eq!(fields.required("a", 10), None);
        let expected = json!({"non_field_errors": ["Invalid data. Expected a dictionary, but got null."]});
        assert_eq!(Value::Object(fields.errors.0.clone()), expected);
        assert_eq!(
            ApiError::from(fields.errors).message,
            "Invalid data. Expected a dictionary, but got null."
        );
    }
}
