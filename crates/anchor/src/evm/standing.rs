//! Whether the block that evidence rests on is on the chain, and final: the query that is left after evidence was checked offline.
//!
//! Queries only blocks, and trusts no single endpoint: an answer counts only if all endpoints give it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::B256;

use super::config::Finality;
use super::rpc::{Rpc, quantity};
use crate::batch::Hash;
use crate::failure::Failure;

/// Where an endpoint's URL is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// Here it is.
    Url(String),
    /// In a file, as a secret.
    File(PathBuf),
}

/// The endpoints' answer about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is on the chain, and final.
    Final,
    /// It is on the chain, or may come to be, and is not final.
    NotFinal,
    /// Another one is at its height, and is final.
    Other(Hash),
}

/// Endpoints that must agree.
pub struct Chain {
    rpcs: Vec<Rpc>,
    finality: Finality,
}

impl Chain {
    /// Reads the files with URLs, and makes no call.
    pub fn open(
        endpoints: &[Source],
        ca_file: Option<&Path>,
        finality: Finality,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let problem = |problem: &str| Failure::Configuration { problem: problem.into() };
        if endpoints.is_empty() {
            return Err(problem("names no endpoint"));
        }
        if finality == (Finality::Blocks { blocks: 0 }) {
            return Err(problem("calls a block final with none on top of it"));
        }
        let mut rpcs: Vec<Rpc> = Vec::new();
        for (number, endpoint) in (1..).zip(endpoints) {
            let rpc = match endpoint {
                Source::Url(url) => Rpc::to(number, url, ca_file, deadline)?,
                Source::File(file) => Rpc::open(number, file, ca_file, deadline)?,
            };
            if rpcs.iter().any(|other| other.is_same(&rpc)) {
                return Err(problem("names one endpoint twice"));
            }
            rpcs.push(rpc);
        }
        Ok(Self { rpcs, finality })
    }

    /// Their answer about the block with this number and hash on this chain, and how many of them count: the endpoints on this chain. An
    /// endpoint of another chain does not count; fails if there is no other.
    pub fn standing(&self, chain_id: u64, number: u64, hash: &Hash) -> Result<(Standing, usize), Failure> {
        let mut common: Option<Standing> = None;
        let (mut queried, mut elsewhere) = (0, None);
        for rpc in &self.rpcs {
            match rpc.require_chain(chain_id) {
                Err(failure @ Failure::WrongChain { .. }) => {
                    elsewhere.get_or_insert(failure);
                    continue;
                }
                other => other?,
            }
            queried += 1;
            let one = self.one(rpc, number, B256::from(hash.0))?;
            common = Some(match common {
                None => one,
                Some(before) if before == one => one,
                // One of them lags.
                Some(Standing::Final | Standing::NotFinal)
                    if matches!(one, Standing::Final | Standing::NotFinal) =>
                {
                    Standing::NotFinal
                }
                Some(_) => return Err(Failure::Disagreement { about: "the block of the anchor".into() }),
            });
        }
        let nobody = || Failure::Configuration { problem: "names no endpoint".into() };
        common.map(|standing| (standing, queried)).ok_or_else(|| elsewhere.unwrap_or_else(nobody))
    }

    fn one(&self, rpc: &Rpc, number: u64, hash: B256) -> Result<Standing, Failure> {
        // Before the block: one that becomes final in between is only called not final, never the other way round.
        let finalized = match self.finality {
            Finality::Tag => rpc.finalized()?.number.to::<u64>(),
            Finality::Blocks { blocks } => rpc.block("latest")?.number.to::<u64>().saturating_sub(blocks),
        };
        if number > finalized {
            return Ok(Standing::NotFinal);
        }
        let block = rpc.block(&quantity(number))?;
        if block.number.to::<u64>() != number {
            return Err(rpc.bad("eth_getBlockByNumber", "is another block"));
        }
        Ok(match block.hash == hash {
            true => Standing::Final,
            false => Standing::Other(super::nodes::hash(block.hash)),
        })
    }
}
