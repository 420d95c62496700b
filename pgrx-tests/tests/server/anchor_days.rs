//! Missed days: when tenants are late, when they are degraded, whom that is told, and what ends it.

use zeroauth_audit_tests::wait_until;

use crate::support::anchors::proxy::Behaviour;
use crate::support::anchors::{Anchoring, Chain};
use crate::support::{DEADLINE, Sql};

/// Anchors are due every day, in twelve hours next.
const DAILY: &str = "UPDATE zeroauth_audit_internal.jobs SET time_zone = 'Asia/Kolkata', schedule = to_char(now() AT TIME ZONE 'Asia/Kolkata' + interval '12 hours', '\"30\" HH24 \"* * *\"') WHERE name = 'anchor'";

/// So many hours ago all of it began.
fn began(server: &mut Anchoring, hours: i64) {
    server.client.run(&format!("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.logs SET started_at = now() - interval '{hours} hours'; UPDATE zeroauth_audit_internal.anchor_targets SET enabled_since = now() - interval '{hours} hours' WHERE enabled"));
}

fn states(server: &mut Anchoring) -> Vec<String> {
    server.client.run("SELECT zeroauth_audit_internal.anchor_status()");
    server.client.lines(
        "SELECT state, count(*) FROM zeroauth_audit_internal.tenant_status GROUP BY state ORDER BY state",
    )
}

#[test]
fn the_second_missed_day_degrades_every_tenant_with_one_alert_until_a_final_anchor_covers_the_gap() {
    let mut server = Anchoring::start("anchor_days");
    server.client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'x' FROM generate_series(1, 50) i");
    let chain = Chain::start();
    chain.target(&mut server);
    assert_eq!(server.run("checkpoint"), "succeeded|-|-");
    server.client.run(DAILY);
    let tenants = server.client.line("SELECT count(DISTINCT tenant_id) FROM zeroauth_audit_internal.logs");
    // Nothing was due yet.
    assert_eq!(states(&mut server), [format!("ok|{tenants}")]);
    began(&mut server, 40);
    assert_eq!(states(&mut server), [format!("anchor-late|{tenants}")]);
    assert_eq!(server.alerts(), [] as [&str; 0]);
    let due = server.client.line("SELECT to_char(since AT TIME ZONE 'Asia/Kolkata', 'YYYY-MM-DD HH24:MI') FROM zeroauth_audit_internal.tenant_status LIMIT 1");
    assert_eq!(
        server.client.line("SELECT DISTINCT banner FROM zeroauth_audit_internal.tenant_status"),
        format!("target chain: the anchor of {due} Asia/Kolkata is late")
    );
    began(&mut server, 70);
    assert_eq!(states(&mut server), [format!("anchor-degraded|{tenants}")]);
    assert_eq!(server.alerts(), ["1|anchor_degraded"]);
    let (since, banner) = {
        let line = server.client.line("SELECT DISTINCT to_char(since AT TIME ZONE 'Asia/Kolkata', 'YYYY-MM-DD HH24:MI'), banner FROM zeroauth_audit_internal.tenant_status");
        let (since, banner) = line.split_once('|').unwrap();
        (since.to_owned(), banner.to_owned())
    };
    assert_eq!(
        banner,
        format!(
            "target chain: anchor-degraded: 2 days in a row without an anchor since {since} Asia/Kolkata; what was written since is not proven outside"
        )
    );
    assert_eq!(
        server.client.line(
            "SELECT state, reasons FROM jsonb_to_record(zeroauth_audit_internal.health_anchors()) h (state text, reasons jsonb)"
        ),
        r#"failing|["anchor_degraded"]"#
    );
    // Told again and again it stays one alert, of one occurrence announced once.
    states(&mut server);
    assert_eq!(server.client.line("SELECT count(*), sum((evidence ->> 'tenants')::int), max((SELECT count(*) FROM jsonb_object_keys(evidence -> 'some'))) FROM zeroauth_audit_internal.alerts WHERE kind = 'anchor_degraded'"), format!("1|{tenants}|20"));
    assert_eq!(
        server.client.line(
            "SELECT count(*) FROM audit_events WHERE tenant_id = 'zeroauth_audit' AND action = 'alert.raised'"
        ),
        "1"
    );
    // A batch that is only planned, or only included, ends nothing.
    chain.behave(&Behaviour::Down);
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    assert!(states(&mut server)[0].starts_with("anchor-degraded|"));
    // Time goes by for what is stored: that it failed has to be, and then that it was accepted.
    let failed = "SELECT machine #>> '{trouble,failures}' = '1' FROM zeroauth_audit_internal.anchor_batches WHERE target = 'chain'";
    wait_until(DEADLINE, "the failure", || server.client.line(failed) == "t");
    chain.behave(&Behaviour::Honest);
    server.pass("2 hours");
    wait_until(DEADLINE, "the transaction", || chain.events().len() == 1);
    server.wait("chain", "submitted");
    server.pass("2 minutes");
    server.wait("chain", "included");
    assert_eq!(states(&mut server)[0], format!("anchor-degraded|{tenants}"));
    chain.settle(&mut server, "finalized");
    wait_until(DEADLINE, "the end of it", || {
        server.client.lines("SELECT state, count(*) FROM zeroauth_audit_internal.tenant_status GROUP BY 1")
            == [format!("ok|{tenants}")]
    });
    assert_eq!(
        server.client.line(
            "SELECT state, condition_gone_at IS NOT NULL FROM zeroauth_audit_internal.alerts WHERE kind = 'anchor_degraded'"
        ),
        "open|t"
    );
    assert_eq!(server.alerts(), [] as [&str; 0]);
    // A tenant that came behind it is not part of it.
    let others: u32 = tenants.parse().unwrap();
    server.client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('late', 'first')");
    assert_eq!(server.run("checkpoint"), "succeeded|-|-");
    began(&mut server, 70);
    assert_eq!(states(&mut server), ["anchor-degraded|1".to_owned(), format!("ok|{others}")]);
    assert_eq!(
        server.client.line("SELECT tenant_id FROM zeroauth_audit_internal.tenant_status WHERE state <> 'ok'"),
        "late"
    );
    assert_eq!(
        server.client.lines("SELECT tenant_id, anchored_at IS NULL FROM audit_tenants WHERE tenant_id IN ('acme', 'late') ORDER BY 1"),
        ["acme|f", "late|t"]
    );
    server.client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.logs SET started_at = now() WHERE tenant_id = 'late'");
    assert_eq!(states(&mut server), [format!("ok|{}", others + 1)]);
    // Whoever does not want anchors disables the job.
    server.client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'anchor'");
    assert_eq!(states(&mut server), [format!("not-anchored|{}", others + 1)]);
}

#[test]
fn a_target_that_fails_for_days_is_told_of_although_another_one_works() {
    let mut server = Anchoring::start("anchor_days_two");
    let chain = Chain::start();
    chain.target(&mut server);
    server.client.run("UPDATE zeroauth_audit_internal.anchor_targets SET enabled = true WHERE name = 'file'");
    chain.behave(&Behaviour::Down);
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    server.wait("file", "finalized");
    server.client.run(DAILY);
    began(&mut server, 70);
    assert_eq!(states(&mut server).first().map(String::as_str), Some("anchor-degraded|3"));
    let banner = server
        .client
        .line("SELECT banner FROM zeroauth_audit_internal.tenant_status WHERE tenant_id = 'acme'");
    assert!(banner.starts_with("target chain: anchor-degraded: 2 days"), "{banner}");
}

#[test]
fn days_that_pile_up_become_two_batches_and_none_orphans_another() {
    let mut server = Anchoring::start("anchor_pile");
    let chain = Chain::start();
    chain.target(&mut server);
    chain.behave(&Behaviour::Down);
    for day in 1..=4 {
        server
            .client
            .run(&format!("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'day {day}')"));
        assert_eq!(server.run("anchor"), "succeeded|-|-");
        wait_until(DEADLINE, "the first to fail", || {
            server.client.line("SELECT count(*) FROM zeroauth_audit_internal.anchor_batches WHERE first_failed_at IS NOT NULL")
                == "1"
        });
    }
    // The first, which may be outside, and the newest, which holds all that came since.
    assert_eq!(
        server.client.lines("SELECT epoch, state, started_at IS NULL, (SELECT max(tree_size) FROM audit_anchors a WHERE a.batch = b.epoch AND a.tenant_id = 'acme') FROM zeroauth_audit_internal.anchor_batches b WHERE target = 'chain' ORDER BY epoch"),
        ["1|planned|f|6", "4|planned|t|9"]
    );
    chain.behave(&Behaviour::Honest);
    server.pass("1 hour");
    chain.settle(&mut server, "finalized");
    wait_until(DEADLINE, "both to be over", || {
        server.batches("chain").iter().all(|line| line.contains("|finalized|") && line.ends_with("|t"))
    });
    let epochs: Vec<u64> = chain.events().iter().map(|(epoch, ..)| *epoch).collect();
    assert_eq!(epochs, [1, 4]);
    assert_eq!(server.client.line("SELECT count(*) FROM audit_anchors WHERE state <> 'finalized'"), "0");
}

#[test]
fn an_epoch_that_somebody_else_used_is_told_and_the_root_goes_out_under_another() {
    let mut server = Anchoring::start("anchor_taken");
    let chain = Chain::start();
    chain.target(&mut server);
    // Somebody who has the key anchors something else under the epoch that comes next.
    let other = zeroauth_audit_anchor::Batch {
        log_id: zeroauth_audit_anchor::Batch::log_id(crate::support::sealed::ORIGIN),
        epoch: 1,
        root: zeroauth_audit_anchor::Hash::sha256(b"garbage"),
        size: 1,
        batch_time: zeroauth_audit_anchor::Moment(1_700_000_000),
    };
    let data = zeroauth_audit_anchor::evm::contract::anchor_call(&other);
    let anchorer = chain.anvil.account(1);
    assert_eq!(chain.anvil.send(&anchorer, Some(&chain.contract), &data)["status"], "0x1");
    chain.anvil.mine(4);
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_until(DEADLINE, "the alert", || server.alerts() == ["1|anchor_epoch_taken:chain:1"]);
    chain.settle(&mut server, "finalized");
    wait_until(DEADLINE, "both to be over", || {
        server.batches("chain") == ["1|failed|3|t", "2|finalized|3|t"]
    });
    assert_eq!(
        server.client.line(
            "SELECT count(DISTINCT root), max(replanned_as) FROM zeroauth_audit_internal.anchor_batches"
        ),
        "1|2"
    );
    assert_eq!(
        server.client.lines("SELECT batch, state, count(*) FROM audit_anchors GROUP BY 1, 2 ORDER BY 1"),
        ["1|failed|3", "2|finalized|3"]
    );
}
