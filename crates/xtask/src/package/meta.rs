//! META.json, which PGXN knows the extension by (PGXN Meta Spec 1.0.0): nothing makes it, this keeps it true.

use std::fs;

use serde_json::{Value, json};
use zeroauth_audit_tests::workspace;

fn meta() -> Value {
    serde_json::from_str(&fs::read_to_string(workspace().join("META.json")).unwrap()).unwrap()
}

#[test]
fn it_has_what_the_specification_asks_for() {
    let meta = meta();
    for field in ["name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"] {
        assert!(!meta[field].is_null(), "{field} is missing");
    }
    assert_eq!(meta["meta-spec"]["version"], "1.0.0");
    assert_eq!(meta["license"], json!(["mit", "apache_2_0"]));
}

#[test]
fn its_versions_are_that_of_the_project_and_of_the_control_file() {
    let (meta, version) = (meta(), env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&meta["version"], &meta["provides"]["zeroauth_audit"]["version"]),
        (&json!(version), &json!(version))
    );
    let control = fs::read_to_string(workspace().join("zeroauth_audit.control")).unwrap();
    // The build puts the version of the project there.
    assert!(control.contains("default_version = '@CARGO_VERSION@'"), "{control}");
}

#[test]
fn what_it_names_is_there() {
    let meta = meta();
    let extensions = meta["provides"].as_object().unwrap();
    assert_eq!(extensions.keys().collect::<Vec<_>>(), ["zeroauth_audit"]);
    for field in ["file", "docfile"] {
        let file = extensions["zeroauth_audit"][field].as_str().unwrap();
        assert!(workspace().join(file).is_file(), "{file}");
    }
}
