//! Whether a block is on the chain and final, by the answers of endpoints that may lag or lie.

use std::time::Duration;

use serde_json::json;
use zeroauth_audit_anchor::Hash;
use zeroauth_audit_anchor::evm::Finality;
use zeroauth_audit_anchor::evm::standing::{Chain, Source, Standing};
use zeroauth_audit_anchor::failure::Failure;

use super::anvil::Anvil;
use super::live::secret;
use super::proxy::{Behaviour, Proxy};

struct Two {
    anvil: Anvil,
    first: Proxy,
    second: Proxy,
    folder: tempfile::TempDir,
}

impl Two {
    fn start() -> Self {
        let anvil = Anvil::start();
        anvil.mine(8);
        let (first, second) = (Proxy::of(&anvil), Proxy::of(&anvil));
        Self { anvil, first, second, folder: tempfile::tempdir().unwrap() }
    }

    fn ask(&self, number: u64, hash: &Hash) -> Result<Standing, Failure> {
        self.ask_with(Finality::Tag, 31337, number, hash)
    }

    fn ask_with(
        &self,
        finality: Finality,
        chain_id: u64,
        number: u64,
        hash: &Hash,
    ) -> Result<Standing, Failure> {
        let file = secret(self.folder.path(), "url", &self.first.url());
        let endpoints = [Source::File(file), Source::Url(self.second.url())];
        let chain = Chain::open(&endpoints, None, finality, Duration::from_secs(5))?;
        chain.standing(chain_id, number, hash).map(|(standing, queried)| {
            assert_eq!(queried, 2);
            standing
        })
    }

    fn hash(&self, number: u64) -> Hash {
        let block = self.anvil.call("eth_getBlockByNumber", json!([format!("{number:#x}"), false]));
        block["hash"].as_str().unwrap().parse().unwrap()
    }
}

#[test]
fn a_block_is_final_only_when_every_endpoint_has_it_below_its_newest_final_one() {
    let two = Two::start();
    let (third, newest) = (two.hash(3), two.hash(8));
    assert_eq!(two.ask(3, &third), Ok(Standing::Final));
    assert_eq!(two.ask(8, &newest), Ok(Standing::NotFinal));
    assert_eq!(two.ask(100, &third), Ok(Standing::NotFinal), "nobody has it yet");
    assert_eq!(two.ask(3, &newest), Ok(Standing::Other(third)));
    let blocks = Finality::Blocks { blocks: 5 };
    assert_eq!(two.ask_with(blocks, 31337, 3, &third), Ok(Standing::Final));
    assert_eq!(two.ask_with(blocks, 31337, 4, &two.hash(4)), Ok(Standing::NotFinal));
    // The second one lags.
    let first = two.anvil.call("eth_getBlockByNumber", json!(["0x1", false]));
    two.second.behave(Behaviour::lies(move |_, params, mut answer| {
        if params[0] == "finalized" {
            answer["result"] = first.clone();
        }
        answer
    }));
    assert_eq!(two.ask(3, &third), Ok(Standing::NotFinal));
}

#[test]
fn endpoints_that_disagree_or_are_on_another_chain_say_nothing() {
    let two = Two::start();
    let (third, fourth) = (two.hash(3), two.hash(4));
    let forged = fourth.to_string();
    two.second.behave(Behaviour::lies(move |_, params, mut answer| {
        if params[0] == "0x3" {
            answer["result"]["hash"] = json!(forged);
        }
        answer
    }));
    let disagree = Failure::Disagreement { about: "the block of the anchor".into() };
    assert_eq!(two.ask(3, &third), Err(disagree.clone()));
    assert_eq!(two.ask(3, &fourth), Err(disagree), "nor for what the liar says");
    two.second.behave(Behaviour::Honest);
    let other = Failure::WrongChain { endpoint: 1, expected: 1, found: 31337 };
    assert_eq!(two.ask_with(Finality::Tag, 1, 3, &third), Err(other));
    two.second.behave(Behaviour::Down);
    assert!(matches!(two.ask(3, &third), Err(Failure::Unreachable { endpoint: 2, .. })));
}

#[test]
fn an_endpoint_of_another_chain_has_no_say() {
    let two = Two::start();
    let third = two.hash(3);
    two.second.behave(Behaviour::lies(|method, _, mut answer| {
        if method == "eth_chainId" {
            answer["result"] = json!("0x1");
        }
        answer
    }));
    let endpoints = [Source::Url(two.second.url()), Source::Url(two.first.url())];
    let chain = Chain::open(&endpoints, None, Finality::Tag, Duration::from_secs(5)).unwrap();
    assert_eq!(chain.standing(31337, 3, &third), Ok((Standing::Final, 1)));
}

#[test]
fn one_endpoint_named_twice_is_no_second_opinion() {
    let url = || Source::Url("http://127.0.0.1:1/".into());
    let open = |endpoints: &[Source]| {
        Chain::open(endpoints, None, Finality::Tag, Duration::from_secs(1))
            .err()
            .map(|error| error.to_string())
    };
    let problem = |what: &str| Some(format!("the configuration of the target {what}"));
    assert_eq!(open(&[url(), url()]), problem("names one endpoint twice"));
    assert_eq!(open(&[]), problem("names no endpoint"));
    let plain = Source::Url("http://example.org/".into());
    assert!(open(&[plain]).is_some_and(|error| error.contains("not https://")));
}
