//! What an ordinary session pays for a library that it does not use.

use anyhow::Result;
use zeroauth_audit_tests::Cluster;

use super::SETTINGS;
use super::pgbench::{self, Protocol};
use super::scenario::Side;

/// One client's statements a second, in a server that loads the library or in one that does not. Each round has a server of its own:
/// nothing else runs there.
pub(crate) fn rate(side: Side, statements: &str, seconds: u32) -> Result<f64> {
    let loaded = side == Side::Loaded;
    let name = if loaded { "bench_loaded" } else { "bench_not_loaded" };
    let mut builder = Cluster::builder(name).preload(loaded);
    for (key, value) in SETTINGS.iter().filter(|(key, _)| *key != "shared_buffers") {
        builder = builder.conf(key, value);
    }
    let cluster = builder.start()?;
    if loaded {
        // The hooks are there for every database; this one has the extension, as the one that is measured would.
        cluster.try_client()?.batch_execute("CREATE EXTENSION zeroauth_audit")?;
    }
    pgbench::rate(&cluster, &(statements.replace("; ", ";\n") + "\n"), Protocol::Prepared, 1, seconds)
}
