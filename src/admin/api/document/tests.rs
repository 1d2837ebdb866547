//! The document by itself: whole, and in the words of the configuration.

use std::collections::BTreeSet;

use super::*;
use crate::admin::api::table::OWN;
use crate::config::fields_of;

fn document() -> Value {
    super::document(&crate::admin::api::table())
}

fn properties(name: &str) -> Vec<String> {
    let all = schemas::all();
    let mut names: Vec<String> =
        all[name]["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_schema_that_is_named_is_there_and_is_one() {
    let document = document();
    let text = document.to_string();
    let named: BTreeSet<&str> =
        text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let there = document["components"]["schemas"].as_object().expect("schemas");
    for name in &named {
        assert!(there.contains_key(*name), "{name}");
    }
    for (name, schema) in there {
        assert!(named.contains(name.as_str()), "nobody names {name}");
        let mut whole = schema.clone();
        whole["components"] = document["components"].clone();
        jsonschema::draft202012::new(&whole).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn an_operation_says_everything_once() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let what = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{what}");
            assert!(operation["summary"].as_str().is_some_and(|summary| summary.ends_with('.')), "{what}");
            let statuses = operation["responses"].as_object().expect("responses");
            assert!(statuses.keys().any(|status| status.starts_with('2')), "{what}");
            let in_path = path.matches('{').count();
            let parameters = operation["parameters"].as_array().expect("parameters");
            let named = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let named: Vec<&str> = named.map(|parameter| parameter["name"].as_str().expect("a name")).collect();
            assert_eq!(named.len(), in_path, "{what}");
            assert!(named.iter().all(|name| path.contains(&format!("{{{name}}}"))), "{what}");
            let is_closed = path.starts_with(API) || path.starts_with(OWN);
            assert_eq!(statuses.contains_key("401"), is_closed || path == "/metrics", "{what}");
            let is_open = !is_closed && path != "/metrics" || path == "/admin/api/login";
            assert_eq!(operation["security"].as_array().is_some_and(Vec::is_empty), is_open, "{what}");
        }
    }
    assert!(ids.len() >= 28, "{ids:?}");
}

/// What the configuration knows can be given, and what it does not know cannot.
#[test]
fn objects_have_the_fields_of_the_configuration() {
    for (schema, section) in [
        ("KeyNew", "key"),
        ("UserNew", "user"),
        ("ChannelNew", "channel"),
        ("UpstreamKeyNew", "upstream_key"),
        ("LimitsNew", "limits"),
    ] {
        // The digest is Weir's own, and files are not read for whoever uses the API.
        let mut known: Vec<&str> = fields_of(section).to_vec();
        known.retain(|field| !["sha256", "value_file"].contains(field));
        if section == "user" {
            // The file has none: it is no place for hashes.
            known.push("password");
        }
        known.sort_unstable();
        assert_eq!(properties(schema), known, "{schema}");
    }
    for (schema, field, section) in [
        ("ChannelNew", "timeouts", "timeouts"),
        ("ChannelNew", "retry", "retry"),
        ("ChannelNew", "cooldown", "cooldown"),
        ("ChannelNew", "probe", "probe"),
        ("LimitsNew", "budget_usd", "budget_usd"),
    ] {
        let schema = schemas::all()[schema]["properties"][field].clone();
        let inner = schema["anyOf"][0]["properties"].as_object().or(schema["properties"].as_object()).cloned();
        let mut names: Vec<String> = inner.expect("properties").into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let mut known: Vec<&str> = fields_of(section).to_vec();
        known.sort_unstable();
        assert_eq!(names, known, "{section}");
    }
    let price: Vec<String> = properties("Price").into_iter().filter(|name| name != "model").collect();
    let mut known = fields_of("price").to_vec();
    known.sort_unstable();
    assert_eq!(price, known);
    let tier = schemas::all()["Price"]["properties"]["tiers"]["items"]["properties"].clone();
    let mut names: Vec<&String> = tier.as_object().expect("properties").iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let mut known = fields_of("tier").to_vec();
    known.sort_unstable();
    assert_eq!(names, known);
}
