//! Drivers by the kind of their target, as `audit_anchor_targets` names it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::driver::Driver;
use crate::evm::EvmDriver;
use crate::failure::Failure;
use crate::file::FileDriver;
use crate::rfc3161::Rfc3161Driver;

/// Every kind of target.
pub const KINDS: [&str; 3] = ["evm", "file", "rfc3161"];

/// The driver of a target. Reads the files that the configuration names, and makes no call.
pub fn open(kind: &str, config: &Value) -> Result<Box<dyn Driver>, Failure> {
    match kind {
        "evm" => Ok(Box::new(EvmDriver::open(read(config)?)?)),
        "file" => Ok(Box::new(FileDriver::open(&read(config)?)?)),
        "rfc3161" => Ok(Box::new(Rfc3161Driver::open(&read(config)?)?)),
        _ => Err(Failure::Configuration { problem: format!("is of no known kind: {}", KINDS.join(", ")) }),
    }
}

fn read<T: DeserializeOwned>(config: &Value) -> Result<T, Failure> {
    // What serde says names settings and types; values that could be secrets are not looked at before they are read.
    T::deserialize(config)
        .map_err(|error| Failure::Configuration { problem: format!("cannot be read: {error}") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error_of(kind: &str, config: &Value) -> String {
        open(kind, config).err().expect("it cannot be opened").to_string()
    }

    #[test]
    fn the_error_of_an_unusable_configuration_names_the_problem() {
        assert_eq!(
            error_of("pigeon", &json!({})),
            "the configuration of the target is of no known kind: evm, file, rfc3161"
        );
        assert_eq!(
            error_of("file", &json!({})),
            "the configuration of the target cannot be read: missing field `path`"
        );
        assert!(error_of("evm", &json!({ "chain": 1 })).starts_with(
            "the configuration of the target cannot be read: unknown field `chain`, expected one of "
        ));
        assert_eq!(
            error_of("file", &json!({ "path": "/a", "key_file": "/no/such/key" })),
            "cannot open the key file: No such file or directory (os error 2)"
        );
        assert_eq!(
            error_of("rfc3161", &json!({ "url_file": "url", "authorities_file": "/a" })),
            "the path of the URL file is not absolute"
        );
    }
}
