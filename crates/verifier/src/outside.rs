//! Evidence of anchors, held against what an auditor trusts outside the database: keys, authorities, blocks of a chain.
//!
//! Reads no file and calls nobody. Whether a block is on a chain can be asked of somebody who is behind [`Blocks`].

use zeroauth_audit_anchor::batch::{Batch, Hash, Moment};
use zeroauth_audit_anchor::evidence::{self, Error, RestsOn, Trust, verify_evidence};
use zeroauth_audit_anchor::evm::Address;
use zeroauth_audit_core::note::VerifierKey;

use crate::anchor::{Claim, Evidence, Said};
use crate::clock;

/// What is said of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// It is on the chain, and final, as so many endpoints say.
    Final(usize),
    /// It is not final, or not there yet.
    NotFinal,
    /// Another one is at its height, and is final.
    Other(Hash),
    /// Nobody who was asked is on that chain.
    Elsewhere,
    /// Nobody can say, and why.
    Unknown(String),
}

/// Who knows which blocks are on a chain.
pub trait Blocks {
    /// What there is to say of the block with this number and hash on this chain.
    fn ask(&self, chain_id: u64, number: u64, hash: &Hash) -> Block;
}

/// What an auditor trusts and expects.
#[derive(Default)]
pub struct Outside {
    /// Keys of anchor files, and who vouches for authorities.
    pub trust: Trust,
    /// Hashes of blocks that are known to be on their chains, and final.
    pub blocks: Vec<Hash>,
    /// Whom to ask of others.
    pub chain: Option<Box<dyn Blocks>>,
    /// Contracts that the operator anchors in; any, when there are none.
    pub contracts: Vec<Address>,
    /// Chains that the operator anchors on; any, when there are none.
    pub chain_ids: Vec<u64>,
}

impl Outside {
    /// Trusts these keys of anchor files, and nothing else.
    #[must_use]
    pub fn with_keys(keys: Vec<VerifierKey>) -> Self {
        Self { trust: Trust { keys, ..Trust::default() }, ..Self::default() }
    }

    fn unproven(&self, kind: &str, error: &Error) -> Said {
        match error {
            Error::DoesNotHold(_) | Error::OtherRoot { .. } => Said::Refuted(error.to_string()),
            Error::NotTrusted(_) if kind == "rfc3161" && self.trust.authorities.is_empty() => {
                Said::NotAsked("no certificate of an authority is given (--tsa-ca)".into())
            }
            Error::NotTrusted(_) if kind == "file" => Said::Unknown(format!("{error} (--anchor-key)")),
            _ => Said::Unknown(error.to_string()),
        }
    }

    /// Why the contract or the chain is not the one that is expected; or what is left to compare.
    fn place(&self, chain_id: u64, contract: &str) -> Result<Vec<String>, String> {
        let mut notes = Vec::new();
        let expected =
            self.contracts.is_empty() || contract.parse().is_ok_and(|found| self.contracts.contains(&found));
        if !expected {
            return Err(format!("it is in the contract {contract}, which is not the expected one"));
        }
        if !(self.chain_ids.is_empty() || self.chain_ids.contains(&chain_id)) {
            return Err(format!("it is on chain {chain_id}, which is not the expected one"));
        }
        if self.contracts.is_empty() {
            notes.push(format!("compare the contract {contract} with what the operator published"));
        }
        if self.chain_ids.is_empty() {
            notes.push(format!("compare the chain {chain_id} with what the operator published"));
        }
        Ok(notes)
    }

    /// Who vouches for the block.
    fn block(&self, chain_id: u64, number: u64, hash: &Hash) -> Result<String, Said> {
        if self.blocks.contains(hash) {
            return Ok("a block that is trusted".into());
        }
        let it = format!("block {number} of chain {chain_id}, {hash}");
        let Some(chain) = &self.chain else {
            let why = match self.blocks.is_empty() {
                true => "nobody was asked whether that is on the chain (--block-hash, --rpc)",
                false => "that is none of the blocks that are trusted (--block-hash)",
            };
            return Err(Said::NotAsked(format!("it is in {it}: {why}")));
        };
        match chain.ask(chain_id, number, hash) {
            Block::Final(1) => Ok("a block that is final, as one endpoint says".into()),
            Block::Final(endpoints) => {
                Ok(format!("a block that is final, as {endpoints} endpoints say independently"))
            }
            Block::NotFinal => Err(Said::Unknown(format!("{it}, is not final, as the endpoints say"))),
            Block::Other(found) => Err(Said::Refuted(format!(
                "{it}, is not on the chain: the final block there is {found}, as the endpoints say"
            ))),
            Block::Elsewhere => {
                Err(Said::NotAsked(format!("it is in {it}: no endpoint that is given is on that chain")))
            }
            Block::Unknown(why) => Err(Said::Unknown(format!("it is in {it}: {why}"))),
        }
    }

    fn rests_on(&self, found: evidence::Verdict) -> Said {
        let at = time(found.anchored_at);
        let (by, notes) = match &found.rests_on {
            RestsOn::Block { chain_id, block_number, block_hash, contract, anchorer, transaction } => {
                let notes = match self.place(*chain_id, contract) {
                    Ok(notes) => notes,
                    Err(why) => return Said::Refuted(why),
                };
                let by = match self.block(*chain_id, *block_number, block_hash) {
                    Ok(by) => by,
                    Err(said) => return said,
                };
                let of = format!("transaction {transaction} by {anchorer} in contract {contract}");
                (format!("verified: {at}, {of}, block {block_number} of chain {chain_id}: {by}"), notes)
            }
            RestsOn::Authority { name, serial, policy } => {
                let stamp = format!("time stamp {serial} by {name:?}, policy {policy}");
                (format!("verified: {at}, {stamp}: an authority that is vouched for"), Vec::new())
            }
            RestsOn::Key { name } => {
                (format!("verified: {at}, entry of an anchor file, signed by {name:?}"), Vec::new())
            }
            _ => return Said::Unknown("it rests on something that is not known to this program".into()),
        };
        Said::Holds { evidence: Box::new(found), by, notes }
    }
}

impl Evidence for Outside {
    fn check(&self, claim: &Claim<'_>) -> Said {
        let root = Hash(*claim.root.as_bytes());
        let found = match verify_evidence(claim.kind, claim.payload.as_bytes(), &root, &self.trust) {
            Ok(found) => found,
            Err(error) => return self.unproven(claim.kind, &error),
        };
        if found.seal.size != claim.size {
            return Said::Refuted(format!("{} entries were anchored, not {}", found.seal.size, claim.size));
        }
        if found.log_id.is_some_and(|log_id| log_id != Batch::log_id(claim.origin)) {
            return Said::Refuted(format!("it is of another registry than {:?}", claim.origin));
        }
        self.rests_on(found)
    }
}

fn time(moment: Moment) -> String {
    u64::try_from(moment.0).map_or_else(|_| moment.0.to_string(), clock::print)
}
