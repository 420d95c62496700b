//! Bills of materials: what is in a package, as JSON of CycloneDX 1.5.
//!
//! The same package gives the same bytes: the serial number is made of its digest, the time is that of the changelog.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::components::{Component, Components, Key};

/// A Debian package whose static parts are in a binary of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Linked {
    /// The package with the archive that was linked, such as `libc6-dev`.
    pub(crate) package: String,
    pub(crate) version: String,
    /// The source package, and its version.
    pub(crate) source: String,
    pub(crate) source_version: String,
}

/// What a bill is about.
pub(crate) struct Subject<'a> {
    /// The Debian package, its version and its architecture.
    pub(crate) package: &'a str,
    pub(crate) version: &'a str,
    pub(crate) architecture: &'a str,
    pub(crate) file: &'a [u8],
    /// As CycloneDX has it: `application` or `library`.
    pub(crate) kind: &'static str,
    /// When it was made, such as `2026-11-21T09:30:00Z`.
    pub(crate) time: &'a str,
    /// The version of the compiler, whose standard library is part of every binary.
    pub(crate) rust: &'a str,
    pub(crate) crates: &'a Components,
    pub(crate) linked: &'a [Linked],
}

/// The bill of materials of a package.
pub(crate) fn of(subject: &Subject) -> Result<String> {
    let digest = Sha256::digest(subject.file);
    let root = format!("{}@{}", subject.package, subject.version);
    let standard_library = format!("rust-std@{}", subject.rust);
    let all = &subject.crates.all;
    let mut components: Vec<Value> = all.iter().map(|(key, component)| of_crate(key, component)).collect();
    components.push(json!({
        "type": "library", "bom-ref": standard_library, "name": "rust-std", "version": subject.rust,
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    components.extend(subject.linked.iter().map(|linked| {
        json!({
            "type": "library", "bom-ref": reference_of_linked(linked),
            "name": linked.package, "version": linked.version,
            "purl": format!(
                "pkg:deb/debian/{}@{}?arch={}", linked.package, encoded(&linked.version), subject.architecture
            ),
        })
    }));
    let mut first = vec![reference(&subject.crates.root), standard_library.clone()];
    first.extend(subject.linked.iter().map(reference_of_linked));
    let mut dependencies = vec![json!({ "ref": root, "dependsOn": first })];
    dependencies.extend(all.iter().map(|(key, component)| {
        let uses: Vec<String> = component.uses.iter().map(reference).collect();
        json!({ "ref": reference(key), "dependsOn": uses })
    }));
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", uuid(&digest)),
        "version": 1,
        "metadata": {
            "timestamp": subject.time,
            "tools": [{ "name": "cargo xtask package", "version": env!("CARGO_PKG_VERSION") }],
            "component": {
                "type": subject.kind, "bom-ref": root, "name": subject.package, "version": subject.version,
                "hashes": [{ "alg": "SHA-256", "content": hex(&digest) }],
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    serde_json::to_string_pretty(&bill).map(|text| text + "\n").context("cannot write JSON")
}

/// Where the bill of a package lies: beside it.
pub(crate) fn path(package: &Path) -> std::path::PathBuf {
    package.with_extension("cdx.json")
}

fn of_crate(key: &Key, component: &Component) -> Value {
    let (name, version) = key;
    let mut value = json!({
        "type": "library", "bom-ref": reference(key), "name": name, "version": version,
        // The field's word for what only takes part in making the rest.
        "scope": if component.shipped { "required" } else { "excluded" },
    });
    if !component.license.is_empty() {
        value["licenses"] = json!([{ "expression": component.license }]);
    }
    // A crate of this workspace is in no registry: another one's advisories are not about it.
    if let Some(checksum) = &component.checksum {
        value["purl"] = json!(format!("pkg:cargo/{name}@{}", encoded(version)));
        value["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if !component.repository.is_empty() {
        value["externalReferences"] = json!([{ "type": "vcs", "url": component.repository }]);
    }
    value
}

fn reference((name, version): &Key) -> String {
    format!("{name}@{version}")
}

fn reference_of_linked(linked: &Linked) -> String {
    format!("{}@{}", linked.package, linked.version)
}

/// A version in a package URL, where a plus sign stands for a space.
fn encoded(version: &str) -> String {
    version.replace('+', "%2B")
}

/// A UUID of version 8 (RFC 9562, 5.8), whose bits are those of a digest.
fn uuid(digest: &[u8]) -> String {
    let mut bits: [u8; 16] = std::array::from_fn(|index| digest.get(index).copied().unwrap_or(0));
    bits[6] = bits[6] & 0x0f | 0x80;
    bits[8] = bits[8] & 0x3f | 0x80;
    let digits = hex(&bits);
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]).join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use cyclonedx_bom::models::bom::Bom;
    use cyclonedx_bom::prelude::{SpecVersion, Validate as _};

    use super::super::components;
    use super::*;

    fn bill(file: &[u8]) -> String {
        let linked = Linked {
            package: "libc6-dev".into(),
            version: "2.36-9+deb12u14".into(),
            source: "glibc".into(),
            source_version: "2.36-9+deb12u14".into(),
        };
        let subject = Subject {
            package: "zeroauth-audit",
            version: "0.1.0-1",
            architecture: "amd64",
            file,
            kind: "application",
            time: "2026-11-21T09:30:00Z",
            rust: "1.95.0",
            crates: &components::PROGRAM,
            linked: &[linked],
        };
        of(&subject).unwrap()
    }

    #[test]
    fn another_implementation_of_cyclonedx_accepts_the_bill() {
        let bom = Bom::parse_from_json_v1_5(bill(b"package").as_bytes()).unwrap();
        let result = bom.validate_version(SpecVersion::V1_5);
        assert!(result.passed(), "{result:?}");
        let components = bom.components.unwrap().0;
        let named = |name: &str| components.iter().find(|found| found.name.to_string() == name).unwrap();
        assert!(named("sha2").purl.as_ref().unwrap().to_string().starts_with("pkg:cargo/sha2@"));
        assert!(named("zeroauth-audit-core").purl.is_none());
        assert_eq!(
            named("libc6-dev").purl.as_ref().unwrap().to_string(),
            "pkg:deb/debian/libc6-dev@2.36-9%2Bdeb12u14?arch=amd64"
        );
        for component in &components {
            assert!(component.licenses.is_some() || component.name.to_string() == "libc6-dev");
        }
    }

    #[test]
    fn every_reference_leads_to_a_component() {
        let bill: Value = serde_json::from_str(&bill(b"package")).unwrap();
        let list = |field: &str| bill[field].as_array().unwrap().clone();
        let mut known: Vec<String> =
            list("components").iter().map(|it| it["bom-ref"].as_str().unwrap().to_owned()).collect();
        known.push(bill["metadata"]["component"]["bom-ref"].as_str().unwrap().to_owned());
        for dependency in list("dependencies") {
            for reference in dependency["dependsOn"].as_array().unwrap().iter().chain([&dependency["ref"]]) {
                assert!(known.iter().any(|known| reference == known), "{reference}");
            }
        }
    }

    #[test]
    fn the_same_package_has_the_same_bill_and_another_one_another() {
        assert_eq!(bill(b"package"), bill(b"package"));
        assert_ne!(bill(b"package"), bill(b"another"));
    }

    #[test]
    fn a_serial_number_is_a_uuid_that_says_how_it_was_made() {
        assert_eq!(uuid(&[0xff; 32]), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}
