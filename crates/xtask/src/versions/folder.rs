//! A Debian release in a folder of `target/versions`, made once by debootstrap and entered with chroot.
//!
//! Nothing is mounted where other processes could see it (`enter.sh`), so the folder can be removed like any other, by its
//! owner, who is root. Whoever holds the lock beside it owns it.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use zeroauth_audit_tests::workspace;

use crate::setup::packages::{self, Purpose};
use crate::steps::Step;
use crate::{failure, process};

/// Where debootstrap lies; an ordinary user's PATH does not lead there.
const DEBOOTSTRAP: &str = "/usr/sbin/debootstrap";
/// What a command inside is told of the caller's environment, apart from what is said explicitly.
const PASSED_ON: [&str; 11] = [
    "TERM",
    "CARGO_NET_OFFLINE",
    "ZEROAUTH_AUDIT_BLESS",
    "CARGO_BUILD_JOBS",
    "CARGO_TERM_COLOR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// A prepared folder, held for one run.
pub(crate) struct Folder {
    suite: String,
    root: PathBuf,
    target: PathBuf,
    toolchain: Toolchain,
    _lock: File,
}

/// Who a command inside is run as.
#[derive(Clone, Copy)]
pub(crate) enum As {
    /// Root, to install packages.
    Root,
    /// The one who started us, so that what is built belongs to them.
    Caller,
}

impl Folder {
    /// Makes the folder of `suite` if need be, with PostgreSQL `major` and what building and running need.
    pub(crate) fn prepared(suite: &str, major: u32) -> Result<Self> {
        let versions = workspace().join("target/versions");
        let target = versions.join(format!("{suite}-target"));
        fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        let path = versions.join(format!("{suite}.lock"));
        let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;

        let folder = Self {
            suite: suite.to_owned(),
            root: versions.join(suite),
            target,
            toolchain: Toolchain::ours()?,
            _lock: lock,
        };
        if !folder.root.exists() {
            make(suite, &folder.root)?;
        }
        folder.enterable()?;
        folder.need(packages::needed(major, Purpose::Everything))?;
        // pg_upgrade of 18 asks for the library where it would be installed and nowhere else.
        let library = format!("usr/lib/postgresql/{major}/lib/zeroauth_audit.so");
        let staged = workspace().join("target/stage").join(&library);
        let mut link = folder.command(As::Root, "ln")?;
        process::run(link.arg("-sfn").arg(staged).arg(Path::new("/").join(&library)))?;
        Ok(folder)
    }

    /// Installs what is missing of these Debian packages.
    pub(crate) fn need(&self, wanted: impl IntoIterator<Item = impl Into<String>>) -> Result<()> {
        let missing: Vec<String> =
            wanted.into_iter().map(Into::into).filter(|package| !self.has(package)).collect();
        if missing.is_empty() { Ok(()) } else { self.install(&missing) }
    }

    /// Gives an empty target folder what cargo has built outside: of that, only what depends on PostgreSQL is built anew inside.
    pub(crate) fn take_over_builds(&self) -> Result<()> {
        let (ours, theirs) = (workspace().join("target/debug"), self.target.join("debug"));
        if theirs.exists() || !ours.join("deps").exists() {
            return Ok(());
        }
        // A copy that was interrupted has another name, and is made again.
        let unfinished = self.target.join("debug.unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--reflink=auto"]);
        copy.args(["build", "deps", ".fingerprint"].map(|folder| ours.join(folder))).arg(&unfinished);
        process::run(&mut copy)?;
        fs::rename(&unfinished, &theirs).with_context(|| format!("cannot rename {}", unfinished.display()))
    }

    /// Whether there is a file at this path inside.
    pub(crate) fn has_file(&self, inside: &Path) -> bool {
        self.outside(inside).exists()
    }

    /// Moves a folder of ours to this path inside.
    pub(crate) fn take(&self, ours: &Path, inside: &Path) -> Result<()> {
        let mut copy = packages::as_root("cp")?;
        process::run(copy.args(["--archive", "--no-target-directory"]).arg(ours).arg(self.outside(inside)))?;
        fs::remove_dir_all(ours).with_context(|| format!("cannot remove {}", ours.display()))
    }

    fn outside(&self, inside: &Path) -> PathBuf {
        self.root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The folder that is `target` of the workspace inside.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A command inside: in the workspace, with our toolchain, and little of our environment.
    pub(crate) fn command(&self, who: As, program: &str) -> Result<Command> {
        let user = match who {
            As::Root => "0:0".to_owned(),
            As::Caller => {
                format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
            }
        };
        let mut command = packages::as_root("unshare")?;
        command.args(["--mount", "sh", "-c", include_str!("enter.sh"), "enter.sh"]);
        command.arg(&self.root).arg(workspace()).arg(&self.target).arg(user);
        command.args(self.toolchain.folders()).args(["--", "env", "-i"]);
        for name in PASSED_ON {
            if let Ok(value) = env::var(name) {
                command.arg(format!("{name}={value}"));
            }
        }
        command.args(self.toolchain.environment()).arg(program);
        Ok(command)
    }

    /// Whether mounting and chroot are allowed here: a container without privileges forbids them even to root.
    fn enterable(&self) -> Result<()> {
        process::read(&mut self.command(As::Root, "true")?)
            .map(drop)
            .map_err(|error| failure::environment(format!("chroot is not possible here: {error:#}")))
    }

    fn has(&self, package: &str) -> bool {
        self.command(As::Root, "dpkg-query")
            .and_then(|mut command| process::output(command.args(["-W", "-f", "${Status}", package])))
            .is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
    }

    fn install(&self, missing: &[String]) -> Result<()> {
        let suite = &self.suite;
        let what = format!("installing in Debian {suite}: {}", missing.join(" "));
        let step = Step::begin(&what, "1 to 2 minutes");
        let mut command = self.command(As::Root, "sh")?;
        command.args(["-c", packages::INSTALL, "install"]).args(missing);
        quiet(&mut command).map_err(|error| {
            failure::environment(format!("packages cannot be installed in Debian {suite}: {error:#}"))
        })?;
        step.done();
        Ok(())
    }
}

/// Makes a Debian `suite` in the folder `root`, with nothing but what every Debian has.
pub(crate) fn make(suite: &str, root: &Path) -> Result<()> {
    if !Path::new(DEBOOTSTRAP).exists() {
        packages::need(&["debootstrap"])?;
    }
    let step = Step::begin(&format!("making a Debian {suite} in {}", root.display()), "a minute");
    let mut command = packages::as_root("sh")?;
    command.args(["-c", include_str!("make.sh"), "make.sh", DEBOOTSTRAP, suite]).arg(root);
    process::run(&mut command).map_err(|_| {
        failure::environment(format!("a Debian {suite} cannot be made here: see {}.log", root.display()))
    })?;
    step.done();
    Ok(())
}

/// The Rust toolchain that runs us and cargo's home, which are shared with the folder instead of installed in it.
struct Toolchain {
    sysroot: PathBuf,
    cargo_home: PathBuf,
    /// What was made here and runs in there as well: tools of cargo, and the local chain.
    made: Vec<PathBuf>,
}

impl Toolchain {
    fn ours() -> Result<Self> {
        let sysroot =
            PathBuf::from(process::read(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
        if sysroot == Path::new("/usr") || sysroot == Path::new("/usr/local") {
            return Err(failure::environment(
                "Rust is installed in the system's own folders, which cannot be shared with another Debian: install it with rustup",
            ));
        }
        let home = env::var_os("HOME").map(PathBuf::from);
        let cargo_home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home?.join(".cargo")))
            .context("neither CARGO_HOME nor HOME is set")?;
        let mut made: Vec<PathBuf> =
            ["target/tools", "target/node"].iter().map(|folder| workspace().join(folder)).collect();
        made.retain(|folder| folder.exists());
        Ok(Self { sysroot, cargo_home, made })
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.sysroot, &self.cargo_home].into_iter().chain(&self.made)
    }

    fn environment(&self) -> [String; 3] {
        let (sysroot, cargo_home) = (self.sysroot.display(), self.cargo_home.display());
        [
            format!(
                "PATH={sysroot}/bin:{cargo_home}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            ),
            format!("CARGO_HOME={cargo_home}"),
            "HOME=/tmp".to_owned(),
        ]
    }
}

/// Runs a command that is talkative when all is well.
fn quiet(command: &mut Command) -> Result<()> {
    process::run(command.stdout(Stdio::null()))
}
