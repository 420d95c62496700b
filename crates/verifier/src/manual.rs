//! Writes the manual pages and shell completions of `zeroauth-audit` into a folder: `man/*.1`, `bash/zeroauth-audit`,
//! `zsh/_zeroauth-audit` and `fish/zeroauth-audit.fish`.
//!
//! They are made from the description that `zeroauth-audit` reads its command line by, so they say what `--help` says.
#![forbid(unsafe_code)]

mod cli;
#[cfg(feature = "network")]
#[expect(dead_code, reason = "commands are described here, not carried out")]
mod network;

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

const NAME: &str = "zeroauth-audit";

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: zeroauth-audit-manual FOLDER");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zeroauth-audit-manual: {}: {error}", folder.display());
            ExitCode::from(2)
        }
    }
}

/// Writes everything into `folder`, which is made if need be; files that are there are replaced.
fn write(folder: &Path) -> io::Result<()> {
    let pages = folder.join("man");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(cli::Cli::command(), &pages)?;
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let completions = folder.join(name);
        fs::create_dir_all(&completions)?;
        let file = clap_complete::generate_to(shell, &mut cli::Cli::command(), NAME, &completions)?;
        // bash-completion looks for a file named like the command.
        if shell == Shell::Bash {
            fs::rename(file, completions.join(NAME))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_completes_it() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        let completions =
            [read("bash/zeroauth-audit"), read("zsh/_zeroauth-audit"), read("fish/zeroauth-audit.fish")];
        let overview = read("man/zeroauth-audit.1");
        for command in cli::Cli::command().get_subcommands() {
            let name = command.get_name();
            let page = read(&format!("man/zeroauth-audit-{name}.1"));
            assert!(overview.contains(&name.replace('-', "\\-")), "{name} is not in the overview");
            for argument in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(
                    page.contains(&argument.replace('-', "\\-")),
                    "{name} --{argument} is not in its page"
                );
                for script in &completions {
                    assert!(script.contains(argument), "{name} --{argument} is not completed");
                }
            }
            for script in &completions {
                assert!(script.contains(name), "{name} is not completed");
            }
        }
    }
}
