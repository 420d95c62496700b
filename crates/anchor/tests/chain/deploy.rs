//! Deploying: the committed contract arrives, with its owner and its anchorer, and can be anchored in at once.

use serde_json::{Value, json};
use zeroauth_audit_anchor::evm::deploy::{Deployer, Deployment};
use zeroauth_audit_anchor::failure::Failure;
use zeroauth_audit_anchor::machine::Phase;
use zeroauth_audit_tests::wait_until;

use super::anvil::PATIENCE;
use super::live::{Live, batch};

fn deployment(live: &Live) -> Value {
    let config = live.config();
    json!({
        "chain_id": 31337,
        "rpc_url_files": config["rpc_url_files"],
        "signer": config["signer"],
        "owner": live.owner,
        "log_id": batch(1).log_id,
        "anchorer": live.anchorer,
        "max_fee_per_gas": 100_000_000_000u64,
    })
}

fn deployer(value: Value) -> Deployer {
    Deployer::open(serde_json::from_value::<Deployment>(value).unwrap()).unwrap()
}

#[test]
fn a_deployed_contract_is_anchored_in() {
    let mut live = Live::start();
    let deployer = deployer(deployment(&live));
    let prepared = deployer.prepare().unwrap();
    assert_eq!(deployer.is_there(&prepared), Ok(false), "signed is not sent");
    deployer.send(&prepared).unwrap();
    // Sent again it deploys nothing more.
    deployer.send(&prepared).unwrap();
    wait_until(PATIENCE, "the contract is there", || deployer.is_there(&prepared).unwrap());
    deployer.send(&prepared).unwrap();
    let receipt = live.anvil.receipt(&prepared.id.to_string());
    assert_eq!(receipt["contractAddress"].as_str().unwrap(), prepared.contract.to_string().to_lowercase());
    // The stored transaction is enough to continue with.
    let bytes = prepared.transaction.to_bytes();
    assert_eq!(deployer.resume(&bytes), Ok(prepared.clone()));
    println!("gas of the deployment: {}", super::anvil::number(&receipt["gasUsed"]));
    live.contract = prepared.contract.to_string().to_lowercase();
    assert_eq!(live.finish(), Phase::Finalized);
}

#[test]
fn a_deployment_that_could_not_work_is_refused_before_it_is_sent() {
    let live = Live::start();
    let failure = |key: &str, value: Value| {
        let mut deployment = deployment(&live);
        deployment[key] = value;
        deployer(deployment).prepare().unwrap_err()
    };
    let zero = json!(format!("0x{}", "0".repeat(40)));
    let problem = || Failure::Configuration { problem: "names the zero address".into() };
    assert_eq!(failure("owner", zero.clone()), problem());
    assert_eq!(failure("anchorer", zero), problem());
    assert!(matches!(failure("max_fee_per_gas", json!(1)), Failure::FeesAboveCap { cap: 1, .. }));
    assert!(matches!(failure("chain_id", json!(1)), Failure::WrongChain { expected: 1, found: 31337, .. }));
    live.anvil.call("anvil_setBalance", json!([live.anchorer, "0x1"]));
    assert_eq!(deployer(deployment(&live)).prepare().unwrap_err(), Failure::NoFunds);
}

#[test]
fn a_kept_transaction_is_resumed_only_for_the_deployment_that_it_is() {
    let live = Live::start();
    let prepared = deployer(deployment(&live)).prepare().unwrap();
    let bytes = prepared.transaction.to_bytes();
    let problem = |what: &str| Err(Failure::Configuration { problem: what.into() });
    let none = problem("has a kept transaction that is none");
    assert_eq!(deployer(deployment(&live)).resume(&bytes[..bytes.len() - 1]), none);
    let other = problem("is of another deployment than the kept transaction");
    for (key, value) in [
        ("owner", json!(live.anchorer)),
        ("anchorer", json!(live.owner)),
        ("chain_id", json!(1)),
        ("log_id", json!(batch(1).root)),
    ] {
        let mut wanted = deployment(&live);
        wanted[key] = value;
        assert_eq!(deployer(wanted).resume(&bytes), other, "{key}");
    }
    let mut by_another = deployment(&live);
    let key = "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
    by_another["signer"]["key_file"] = json!(super::live::secret(live.folder(), "other", key));
    assert_eq!(deployer(by_another).resume(&bytes), other);
}

#[test]
fn a_deployment_that_needs_more_gas_than_its_cap_is_refused() {
    let live = Live::start();
    let mut capped = deployment(&live);
    capped["max_gas"] = json!(500_000);
    assert!(matches!(deployer(capped).prepare(), Err(Failure::GasAboveCap { cap: 500_000, .. })));
}
