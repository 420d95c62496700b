//! An installation with a stage in it, where the server has no setting that names a second place of extensions: `extension_destdir` is
//! Debian's own, `extension_control_path` came with PostgreSQL 18.
//!
//! A server looks for its shared files beside its own program, wherever that lies. So the program is copied, what is around it linked, and
//! the folders of extensions and of libraries are made of both.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::environment::OsUser;
use crate::installation::Installation;
use crate::stage;

/// Programs that ask where they lie. The others may be links.
const LOOKED_UP: [&str; 2] = ["postgres", "pg_ctl"];

/// Makes it in `place`, which must not exist; returns it with the programs there.
pub(crate) fn make(
    place: &Path,
    stage: &Path,
    user: OsUser,
    installation: &Installation,
) -> Result<Installation> {
    let around = installation.bindir.parent().context("programs are in no folder")?;
    let moved = |folder: &Path| -> Result<PathBuf> {
        let below = folder.strip_prefix(around).with_context(|| {
            format!("{} is not beside {}", folder.display(), installation.bindir.display())
        })?;
        Ok(place.join(below))
    };
    let (bin, share) = (moved(&installation.bindir)?, moved(&installation.sharedir)?);
    link_all(&installation.bindir, &bin, &LOOKED_UP)?;
    for program in LOOKED_UP {
        let (from, to) = (installation.bindir.join(program), bin.join(program));
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    link_all(&installation.sharedir, &share, &["extension"])?;
    let (libraries, extensions) = (&installation.pkglibdir, &installation.sharedir.join("extension"));
    for folder in [libraries, extensions] {
        link_all(&stage::below(stage, folder), &moved(folder)?, &[])?;
        link_all(folder, &moved(folder)?, &[])?;
    }
    user.own(place)?;
    Ok(Installation { bindir: bin, ..installation.clone() })
}

/// Links to what is in `from`, but for `except` and for what is in `to` already.
fn link_all(from: &Path, to: &Path, except: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let link = to.join(entry.file_name());
        if except.iter().any(|name| entry.file_name() == *name) || link.symlink_metadata().is_ok() {
            continue;
        }
        symlink(entry.path(), &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}
