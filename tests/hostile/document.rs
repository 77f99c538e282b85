//! The operations of the OpenAPI document, so that a route that is added later is attacked too.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::Client;

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: Method,
    /// With its places in braces.
    pub path: String,
    /// The parameters of the path.
    pub places: Vec<String>,
    /// The parameters of the query.
    pub query: Vec<String>,
    /// A body that is as it should be, where there is one.
    pub body: Option<Value>,
}

impl Operation {
    /// The path with its places filled.
    pub fn path_with(&self, fill: impl Fn(&str) -> String) -> String {
        let fill = |path: String, place: &String| path.replace(&format!("{{{place}}}"), &fill(place));
        self.places.iter().fold(self.path.clone(), fill)
    }

    /// How a failure names it.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// All operations.
pub async fn operations(client: &Client) -> Vec<Operation> {
    let document = client.get("/api/openapi.json").await.expect(200);
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            operations.push(Operation {
                places: parameters(operation, "path"),
                query: parameters(operation, "query"),
                body: body(&document, operation),
                path: path.clone(),
                method,
            });
        }
    }
    assert!(operations.len() > 20, "the document is empty");
    operations
}

fn parameters(operation: &Value, kind: &str) -> Vec<String> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    let wanted = all.filter(|parameter| parameter["in"] == kind);
    wanted
        .map(|parameter| parameter["name"].as_str().expect("a name").to_owned())
        .collect()
}

fn body(document: &Value, operation: &Value) -> Option<Value> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    if schema.is_null() {
        return None;
    }
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .expect("the schema is there"),
        None => schema,
    };
    let fields = schema["properties"].as_object().into_iter().flatten();
    let example = fields.map(|(name, schema)| (name.clone(), example(name, schema)));
    Some(Value::Object(example.collect::<Map<_, _>>()))
}

/// A value that its route takes.
fn example(name: &str, schema: &Value) -> Value {
    match name {
        "email" => json!("somebody@example.org"),
        "password" => json!("short"),
        "outboundUrl" => json!("http://127.0.0.1:9/inbox"),
        "media_url" | "mediaUrl" => json!("https://example.org/picture.png"),
        "message_type" | "messageType" => json!("text"),
        _ if schema["type"] == "boolean" => json!(true),
        _ if schema["type"] == "integer" => json!(1),
        _ => json!("something"),
    }
}
