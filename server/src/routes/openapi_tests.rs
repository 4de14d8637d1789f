//! That docs/openapi.json describes the routes that there are, no others, and what they answer.

use std::collections::BTreeSet;

use serde_json::Value;

use super::openapi::DOCUMENT;

/// Where routes for peers and scripts are made.
const SOURCES: [&str; 2] = [include_str!("../peer_api.rs"), include_str!("binaries.rs")];
const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// `get /path` of each route of the sources.
fn routes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in SOURCES {
        for route in source.split(".route(").skip(1) {
            let (path, handlers) = route.trim_start().trim_start_matches('"').split_once('"').unwrap();
            let handlers = handlers
                .split(".route(")
                .next()
                .unwrap()
                .split(['\n', ';'])
                .find(|line| line.contains('('))
                .unwrap();
            let of_route = METHODS.iter().filter(|method| handlers.contains(&format!("{method}(")));
            found.extend(of_route.map(|method| format!("{method} {path}")));
        }
    }
    assert!(found.len() > 8, "{found:?}");
    found
}

/// Whether a value is what a schema says; the keywords that the document uses.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let Some(schema) = schema.as_object() else { panic!("{at}: {schema} is no schema") };
    for (keyword, expected) in schema {
        match keyword.as_str() {
            "$ref" => {
                let pointer = expected.as_str().unwrap().strip_prefix('#').unwrap();
                check(
                    document,
                    document.pointer(pointer).unwrap_or_else(|| panic!("{at}: {pointer}")),
                    value,
                    at,
                );
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("{at}: type {other}"),
                };
                let fits = expected.as_array().map_or_else(|| is(expected), |names| names.iter().any(is));
                assert!(fits, "{at}: {value} is not {expected}");
            }
            "required" => {
                for name in expected.as_array().unwrap() {
                    assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: no {name} in {value}");
                }
            }
            "properties" => {
                let described = expected.as_object().unwrap();
                for (name, value) in value.as_object().unwrap() {
                    let schema =
                        described.get(name).unwrap_or_else(|| panic!("{at}: {name} is not described"));
                    check(document, schema, value, &format!("{at}.{name}"));
                }
            }
            "items" => {
                for item in value.as_array().unwrap() {
                    check(document, expected, item, &format!("{at}[]"));
                }
            }
            "enum" => assert!(expected.as_array().unwrap().contains(value), "{at}: {value}"),
            "const" => assert_eq!(expected, value, "{at}"),
            "minimum" => assert!(value.as_u64() >= expected.as_u64(), "{at}: {value}"),
            "minLength" => {
                assert!(value.as_str().unwrap().len() as u64 >= expected.as_u64().unwrap(), "{at}")
            }
            "maxLength" => {
                assert!(value.as_str().unwrap().len() as u64 <= expected.as_u64().unwrap(), "{at}")
            }
            "maxItems" => {
                assert!(value.as_array().unwrap().len() as u64 <= expected.as_u64().unwrap(), "{at}")
            }
            "pattern" => {
                // Ids, of which one may be `none`; or texts of a few characters, which the program itself tells.
                let (text, pattern) = (value.as_str().unwrap(), expected.as_str().unwrap());
                let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let is_id = text.len() == 64 && text.bytes().all(is_digit);
                let fits = match pattern {
                    "^[0-9a-f]{64}$" => is_id,
                    "^(none|[0-9a-f]{64})$" => is_id || text == "none",
                    _ => text.bytes().all(|byte| byte.is_ascii_graphic()),
                };
                assert!(fits, "{at}: {text} is not {pattern}");
            }
            "anyOf" => {
                let fits = |schema: &Value| {
                    // Null, or a reference.
                    (schema["type"] == "null") == value.is_null()
                };
                let schema = expected.as_array().unwrap().iter().find(|schema| fits(schema));
                check(document, schema.unwrap_or_else(|| panic!("{at}: {value}")), value, at);
            }
            "description" | "contentEncoding" => {}
            other => panic!("{at}: keyword {other}"),
        }
    }
}

/// Checks a value against the schema of an answer, or of a request (`"requestBody"`).
pub(crate) fn check_answer(path: &str, method: &str, status: &str, value: &Value) {
    let document = document();
    let operation = &document["paths"][path][method];
    let described = match status {
        "requestBody" => &operation["requestBody"],
        status => operation["responses"].get(status).unwrap_or(&operation["responses"]["default"]),
    };
    let described = match described.get("$ref") {
        Some(pointer) => document.pointer(pointer.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(),
        None => described,
    };
    let schema = &described["content"]["application/json"]["schema"];
    check(&document, schema, value, &format!("{method} {path} {status}"));
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        // A route that answers GET answers HEAD too.
        let methods = operations.as_object().unwrap().keys().filter(|method| *method != "head");
        described.extend(methods.map(|method| format!("{method} {path}")));
    }
    assert_eq!(described, routes());
}

#[test]
fn names_in_paths_are_parameters_and_operations_have_ids_of_their_own() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let named: BTreeSet<&str> =
            path.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect();
        for (method, operation) in operations.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            let none = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&none);
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let in_path: BTreeSet<&str> =
                in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
            assert_eq!(in_path, named, "{method} {path}");
        }
    }
}

#[test]
fn examples_are_what_their_schemas_say() {
    /// Everything with a schema and an example.
    fn walk(document: &Value, value: &Value, at: &str, count: &mut usize) {
        if let (Some(schema), Some(example)) = (value.get("schema"), value.get("example")) {
            check(document, schema, example, at);
            *count += 1;
        }
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| walk(document, value, &format!("{at}/{name}"), count));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(document, value, at, count)),
            _ => {}
        }
    }
    let (document, mut count) = (document(), 0);
    walk(&document, &document, "", &mut count);
    assert!(count > 10, "{count} examples");
}
