//! The auditor's program for packages: one static file that runs on any Linux of its architecture, its manual pages and its
//! shell completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use zeroauth_audit_tests::workspace;

use super::sbom::Linked;
use crate::process;
use crate::steps::Step;

/// The package of the workspace.
pub(crate) const PACKAGE: &str = "zeroauth-audit-verifier";
/// The program.
pub(crate) const NAME: &str = "zeroauth-audit";

/// What was built.
pub(crate) struct Program {
    binary: PathBuf,
    /// The folder with manual pages and completions.
    manual: PathBuf,
    /// The Debian packages whose archives are in it.
    pub(crate) linked: Vec<Linked>,
}

/// Builds the program and what describes it.
pub(crate) fn build() -> Result<Program> {
    let step = Step::begin("building zeroauth-audit as a static program", "5 minutes the first time");
    let host = host()?;
    let lookup = lookup()?;
    let mut command = process::cargo();
    command.args(["rustc", "--quiet", "--locked", "--release", "--package", PACKAGE, "--bin", NAME]);
    // With a target, macros and build scripts are built without this.
    command.args(["--target", &host]).env("CARGO_ENCODED_RUSTFLAGS", "-C\x1ftarget-feature=+crt-static");
    command.args(["--", "-C", &format!("link-arg={}", lookup.display())]);
    process::run(&mut command)?;
    let binary = workspace().join("target").join(host).join("release").join(NAME);
    let loads =
        process::read(Command::new("readelf").args(["--wide", "--segments", "--dynamic"]).arg(&binary))?;
    ensure!(!loads.contains("INTERP") && !loads.contains("(NEEDED)"), "zeroauth-audit is not static");

    let manual = workspace().join("target/packages/manual");
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--locked", "--package", PACKAGE, "--features", "manual"]);
    process::run(command.args(["--bin", "zeroauth-audit-manual", "--"]).arg(&manual))?;
    step.done();
    Ok(Program { binary, manual, linked: linked()? })
}

impl Program {
    /// Puts everything below `root`, where Debian looks for it.
    pub(crate) fn install(&self, root: &Path) -> Result<()> {
        let put = |from: &Path, folder: &str| -> Result<()> {
            let folder = root.join(folder);
            fs::create_dir_all(&folder)?;
            let name = from.file_name().context("a file without a name")?;
            fs::copy(from, folder.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
            Ok(())
        };
        put(&self.binary, "usr/bin")?;
        for (kind, folder) in [
            ("man", "usr/share/man/man1"),
            ("bash", "usr/share/bash-completion/completions"),
            ("zsh", "usr/share/zsh/vendor-completions"),
            ("fish", "usr/share/fish/vendor_completions.d"),
        ] {
            for entry in fs::read_dir(self.manual.join(kind))? {
                put(&entry?.path(), folder)?;
            }
        }
        Ok(())
    }
}

/// The version of the compiler, such as `1.95.0`.
pub(crate) fn rust_version() -> Result<String> {
    about_compiler("release: ")
}

/// The target that the compiler runs on; its C library is glibc.
fn host() -> Result<String> {
    let host = about_compiler("host: ")?;
    ensure!(host.ends_with("-linux-gnu"), "packages are made on Linux with glibc, and this is {host}");
    Ok(host)
}

fn about_compiler(field: &str) -> Result<String> {
    let text = process::read(Command::new("rustc").arg("-vV").current_dir(workspace()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    Ok(value.with_context(|| format!("rustc -vV says no {field}"))?.to_owned())
}

/// Compiles `packaging/static/lookup.c`, which says why.
fn lookup() -> Result<PathBuf> {
    let object = workspace().join("target/packages/lookup.o");
    let source = workspace().join("packaging/static/lookup.c");
    let mut command = Command::new("cc");
    process::run(command.args(["-O2", "-Wall", "-Werror", "-fPIE", "-c", "-o"]).arg(&object).arg(source))?;
    Ok(object)
}

/// The packages that have the archives of the C library and of the compiler's own functions.
fn linked() -> Result<Vec<Linked>> {
    let mut found = Vec::new();
    for question in ["-print-file-name=libc.a", "-print-libgcc-file-name"] {
        let file = process::read(Command::new("cc").arg(question))?;
        let file = fs::canonicalize(file.trim()).with_context(|| format!("cc {question} names no file"))?;
        let owner = process::read(Command::new("dpkg-query").arg("--search").arg(&file))?;
        let (package, _) = owner.split_once(": ").context("dpkg-query names no package")?;
        let format = "${Package} ${Version} ${source:Package} ${source:Version}";
        let about =
            process::read(Command::new("dpkg-query").args(["--show", "--showformat", format, package]))?;
        let [package, version, source, source_version] = about.split(' ').collect::<Vec<_>>()[..] else {
            bail!("dpkg-query says {about}");
        };
        found.push(Linked {
            package: package.into(),
            version: version.into(),
            source: source.into(),
            source_version: source_version.into(),
        });
    }
    Ok(found)
}
