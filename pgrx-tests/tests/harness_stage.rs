//! The staged extension is found by CREATE EXTENSION, by LOAD and by shared_preload_libraries. A contrib library under our
//! name stands in for the real one, so that this test needs no build of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::fs;

use zeroauth_audit_tests::{Cluster, Installation};

#[test]
fn a_stage_outside_usr_serves_create_extension_load_and_preload() {
    let installation = Installation::find().unwrap();
    let stage = tempfile::tempdir().unwrap();
    let inside = |path: &std::path::Path| stage.path().join(path.strip_prefix("/").unwrap());
    let (libraries, extensions) =
        (inside(&installation.pkglibdir), inside(&installation.sharedir).join("extension"));
    fs::create_dir_all(&libraries).unwrap();
    fs::create_dir_all(&extensions).unwrap();
    fs::copy(installation.pkglibdir.join("auto_explain.so"), libraries.join("zeroauth_audit.so")).unwrap();
    fs::write(extensions.join("zeroauth_audit.control"), "default_version = '0.0'\n").unwrap();
    fs::write(extensions.join("zeroauth_audit--0.0.sql"), "SELECT 1;\n").unwrap();
    // SAFETY: this is the only test of its binary, so no other thread reads the environment.
    #[allow(unsafe_code, reason = "the stage is named by the environment")]
    unsafe {
        std::env::set_var("ZEROAUTH_AUDIT_STAGE", stage.path());
    }

    let cluster = Cluster::audited("stage").expect("preload and CREATE EXTENSION find the stage");
    let mut client = cluster.client();
    let preloaded: String = client.query_one("SHOW shared_preload_libraries", &[]).unwrap().get(0);
    assert_eq!(preloaded, "zeroauth_audit");
    let setting: i64 = client
        .query_one("SELECT count(*) FROM pg_settings WHERE name = 'auto_explain.log_analyze'", &[])
        .unwrap()
        .get(0);
    assert_eq!(setting, 1, "the library is in every session");

    let loaded = Cluster::builder("stage").preload(false).start().unwrap();
    loaded.client().batch_execute("LOAD 'zeroauth_audit'").expect("LOAD finds the stage");
}
