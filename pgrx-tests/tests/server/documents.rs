//! The documents against a server: the SQL reference, the list of settings, and every example of README and tutorial.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use zeroauth_audit_tests::{Cluster, OsUser, reference, workspace};

use crate::offline::program;
use crate::support::examples::{Example, Runner, examples, matches};
use crate::support::receiver::Receiver;
use crate::support::{Database, Sql, shared, succeed};

/// Longest wait for what the worker does by itself: a restore keeps jobs waiting for a minute, and then each has its turn.
const WAIT: Duration = Duration::from_secs(300);

fn document(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap()
}

#[test]
fn the_sql_reference_is_that_of_the_installed_extension() {
    let database = Database::audited("documents_sql");
    let text = reference::sql(&mut database.client()).unwrap();
    assert_current(reference::FILE, &text, "cargo xtask docs writes it");
}

/// A document that a test made, too; blessing writes it.
fn assert_current(name: &str, text: &str, remedy: &str) {
    if std::env::var_os("ZEROAUTH_AUDIT_BLESS").is_some() {
        fs::write(workspace().join(name), text).unwrap();
    }
    assert!(text == document(name), "{name} is stale: {remedy}");
}

#[test]
fn the_run_of_the_drill_that_is_shown_is_a_real_one() {
    let database = Database::audited("documents_drill");
    let sql = "SELECT passed, attack, expected, found, pitfall FROM audit_drill()";
    let run =
        succeed(shared().command("psql").args(["-X", "-P", "pager=off", "-d", &database.name, "-c", sql]));
    let run: String = run.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    assert_current("docs/drill.txt", &run, "ZEROAUTH_AUDIT_BLESS=1 and this test write it");
}

#[test]
fn every_setting_has_its_heading_and_every_heading_its_setting() {
    let mut client = Database::audited("documents_settings").client();
    let settings =
        client.lines("SELECT name FROM pg_settings WHERE name LIKE 'zeroauth\\_audit.%' ORDER BY 1");
    assert!(settings.len() >= 15, "{settings:?}");
    let text = document("docs/settings.md");
    let mut headings: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .map(str::to_owned)
        .collect();
    headings.sort();
    assert_eq!(headings, settings);
    for setting in &settings {
        let link = format!("](#{})", setting.replace('.', ""));
        assert!(text.contains(&link), "{setting} is not in the table at the top of docs/settings.md");
    }
}

/// A server as a reader has it after installing, and the folders and addresses that the documents name.
struct Reader {
    cluster: Cluster,
    /// Text of a document, and what stands for it here.
    places: Vec<(&'static str, String)>,
    phone: Receiver,
    tools: PathBuf,
}

impl Reader {
    fn new(name: &str) -> Self {
        let cluster = Cluster::builder(name).start().unwrap();
        let home = cluster.data_dir().parent().unwrap().to_path_buf();
        let phone = Receiver::start();
        let mut places = vec![("https://ntfy.example.com", format!("http://{}", phone.address))];
        for (place, folder) in [
            ("/etc/zeroauth", "etc"),
            ("/mnt/worm", "worm"),
            ("/mnt/notary", "notary"),
            ("/home/auditor", "auditor"),
        ] {
            places.push((place, home.join(folder).display().to_string()));
        }
        // Where the server's user may read and run it.
        let tools = home.join("tools");
        fs::create_dir(&tools).unwrap();
        fs::copy(program(), tools.join("zeroauth-audit")).unwrap();
        OsUser::current().unwrap().own(&tools).unwrap();
        Self { cluster, places, phone, tools }
    }

    /// What a block prints, errors included, and whether it ended well.
    fn run(&self, example: &Example) -> (String, bool) {
        let script =
            self.places.iter().fold(example.code.clone(), |text, (place, here)| text.replace(place, here));
        let text = match example.runner {
            Runner::Psql => {
                format!("exec psql -X -q -P pager=off 2>&1 <<'END OF BLOCK'\n{script}\nEND OF BLOCK\n")
            }
            Runner::Shell => format!("exec 2>&1\nset -e\n{script}"),
        };
        let path = format!(
            "{}:{}:{}",
            self.tools.display(),
            self.cluster.installation().bindir.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut command = self.cluster.command("sh");
        command.env("PATH", path).env("TZ", "UTC").env("PGTZ", "UTC").env("LC_ALL", "C.UTF-8");
        let output = command.args(["-c", &text]).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let printed =
            self.places.iter().fold(printed, |text, (place, here)| text.replace(here.as_str(), place));
        let failed = !output.status.success() || example.runner == Runner::Psql && printed.contains("ERROR:");
        (printed, !failed)
    }

    fn check(&self, name: &str, example: &Example) {
        let since = Instant::now();
        loop {
            let (printed, well) = self.run(example);
            let right = example.expected.as_ref().map_or(well, |expected| matches(expected, &printed));
            if right {
                return;
            }
            assert!(
                example.wait && since.elapsed() < WAIT,
                "{name}, line {}: {}\nprints\n{printed}\ninstead of\n{}",
                example.line,
                example.code,
                example.expected.as_deref().unwrap_or("nothing that fails")
            );
            thread::sleep(Duration::from_millis(500));
        }
    }
}

fn run_all(name: &str, reader: &Reader) -> usize {
    let examples = examples(&document(name));
    for example in &examples {
        reader.check(name, example);
    }
    examples.len()
}

#[test]
fn every_example_of_the_readme_prints_what_it_shows() {
    let reader = Reader::new("readme");
    assert!(run_all("README.md", &reader) >= 3);
    assert!(reader.phone.got().is_empty());
}

#[test]
fn every_example_of_the_tutorial_prints_what_it_shows() {
    let reader = Reader::new("tutorial");
    assert!(run_all("docs/tutorial.md", &reader) >= 20);
    // What the phone got, in the order of the story: the test, then what the superuser did.
    let kinds: Vec<String> =
        reader.phone.got().iter().map(|post| post["alert"]["kind"].as_str().unwrap().to_owned()).collect();
    for kind in ["maintenance_used", "rows_modified", "tail_truncated"] {
        assert!(kinds.iter().any(|got| got == kind), "{kind} is not among {kinds:?}");
    }
}

#[test]
fn every_page_of_the_manual_is_in_its_table_of_contents() {
    let contents = document("docs/README.md");
    let mut pages = 0;
    for entry in fs::read_dir(workspace().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.extension() == Some(Path::new("md").as_os_str()) && name != "README.md" {
            pages += 1;
            assert!(contents.contains(&format!("]({name})")), "{name} is not in docs/README.md");
        }
    }
    assert!(pages >= 20);
    let lines = document("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines: one page is at most 200");
}
