//! What a refusal may look like.

use reqwest::Method;
use serde_json::Value;

use crate::support::Answer;
use crate::target::Outcome;

/// Below these paths `error` is a text, or a map of fields; everywhere else it is an object.
const TEXT_ROOTS: [&str; 4] = ["/api/conversations", "/api/messages", "/api/telegram", "/api/webhooks"];

/// An answer is no fault of the hub, and if it is a refusal it has the shape of its path.
pub fn check(method: &Method, path: &str, answer: &Answer) -> Outcome {
    let status = answer.status.as_u16();
    let fail = |what: &str| {
        let text: String = answer.text.chars().take(300).collect();
        Err(format!("{method} {path}: {what}: {status} {text}"))
    };
    // This hub has neither an application of its own at Telegram nor a model, and says so.
    let has_no_application = path.starts_with("/api/telegram/auth/") && answer.text.contains("my.telegram.org");
    let has_no_model = path.ends_with("/ai-assist") && answer.text.contains("not set up on this hub");
    let is_unset = status == 503 && (has_no_application || has_no_model);
    if status >= 500 && !is_unset {
        return fail("a fault of the hub");
    }
    if answer.text.len() > 2_000_000 {
        return fail("an answer without bound");
    }
    if status < 400 || *method == Method::HEAD {
        return Ok(());
    }
    let media_type = answer
        .headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if status == 404 && media_type.starts_with("text/html") {
        return if answer.text.contains("<title>Not found</title>") {
            Ok(())
        } else {
            fail("another page")
        };
    }
    let body = answer.json();
    let is_text = TEXT_ROOTS.iter().any(|root| path.starts_with(root)) || path.starts_with("/api/oauth/accounts");
    let is_right = match &body["error"] {
        Value::String(text) => is_text && !text.is_empty(),
        Value::Object(error) if is_text => error.values().all(is_list_of_texts),
        Value::Object(error) => {
            error["code"].is_string() && is_filled(&error["message"]) && error["retryable"].is_boolean()
        }
        _ => false,
    };
    if is_right && media_type == "application/json" {
        Ok(())
    } else {
        fail("another shape")
    }
}

/// A refusal of a body says which field is wrong, or that the whole is no JSON.
pub fn names(field: &str, answer: &Answer) -> bool {
    let text = &answer.text;
    let is_number = text.contains("phone number");
    let is_over = text.contains("start again");
    is_number
        || is_over
        || text.contains(field)
        || text.contains("JSON parse error")
        || text.contains("Expected a dictionary")
}

fn is_list_of_texts(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|list| !list.is_empty() && list.iter().all(is_filled))
}

fn is_filled(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
