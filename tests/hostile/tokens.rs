//! Pieces of JSON that have broken something somewhere, written out, because some cannot be made from a parsed value.

use proptest::prelude::*;
use serde_json::Value;

/// Stands in a document where a hostile piece goes.
const HERE: &str = "@@here@@";

/// Every kind of value where another was meant.
pub fn all() -> Vec<String> {
    let mut tokens: Vec<String> = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "1e300",
        "-0.0",
        "9223372036854775808",
        "123456789012345678901234567890",
        "[]",
        "{}",
        "[null]",
        "{\"\":null}",
        "[[[[[]]]]]",
        "\"\"",
        "\" \"",
        "\"\\u0000\"",
        "\"a\\u0000b\"",
        "\"\\u202e\\u2066\\ufeff\"",
        "\"\\ud83d\\ude00\"",
        "\"\\r\\n\\t\\u0001\\u007f\"",
        "\"%s%n%x\"",
        "\"' OR 1=1 --\"",
        "\"../../etc/passwd\"",
        "\"$(id)\"",
        "\"\\u0661\\u0662\"",
        "\"\\ufffe\\uffff\"",
        "\"javascript:alert(1)\"",
        "\"http://[::1\"",
        "\"http://example.org/\\u0000\"",
        "\"http://example.org/\\ttab\"",
        "\"NaN\"",
        // Not JSON at all.
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "1e999999",
        "NaN",
        "'x'",
        "+1",
        "01",
        "\"\u{1}\"",
        "\"unfinished",
        "{",
        "",
        ",",
    ]
    .map(str::to_owned)
    .to_vec();
    tokens.push(format!("\"{}\"", "x".repeat(100_000)));
    tokens.push(format!("\"{}\"", "\u{1f600}".repeat(20_000)));
    tokens.push(format!("\"{}\"", "e\\u0301".repeat(9_000)));
    tokens.push(format!("{}{}", "[".repeat(100), "]".repeat(100)));
    tokens.push("[".repeat(100_000));
    tokens.push("{\"a\":".repeat(50_000));
    tokens.push(format!("[{}0]", "0,".repeat(50_000)));
    tokens.push("9".repeat(10_000));
    tokens
}

/// One of [`all`], or any JSON, or a text of any characters.
pub fn any_token() -> impl Strategy<Value = String> {
    let text = prop::collection::vec(any::<char>(), 0..200).prop_map(String::from_iter);
    prop_oneof![
        3 => prop::sample::select(all()),
        1 => any_json().prop_map(|value| value.to_string()),
        1 => text.prop_map(|text| Value::from(text).to_string()),
    ]
}

/// Any JSON, not very large.
pub fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("id".to_owned()),
        Just("text".to_owned()),
        Just("\0".to_owned()),
        "\\PC{0,12}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(word.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The document with a hostile piece in one place, which a JSON pointer names (RFC 6901).
pub fn put(document: &Value, pointer: &str, token: &str) -> String {
    let mut document = document.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    document.pointer_mut(parent).expect("the place exists")[key] = Value::from(HERE);
    document.to_string().replace(&format!("\"{HERE}\""), token)
}
