//! JSON-RPC endpoints, asked which blocks are on their chains: the only thing that is ever asked of a network to check something.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroauth_audit_anchor::batch::Hash;
use zeroauth_audit_anchor::evm::Finality;
use zeroauth_audit_anchor::evm::standing::{Chain, Source, Standing};
use zeroauth_audit_anchor::failure::Failure;

use crate::outside::{Block, Blocks};

/// A call that takes longer is given up.
const DEADLINE: Duration = Duration::from_secs(20);

/// Endpoints, of which all that are on the chain in question have to agree.
pub struct Endpoints {
    chain: Chain,
    /// Why one of them could not be reached: it is not waited for again, however many anchors there are.
    unreachable: OnceCell<String>,
}

impl Endpoints {
    /// Those that `given` names, each a URL or the path of a file with one. A block is final when the chain says so, or with so many
    /// `confirmations` on top. Calls nobody.
    ///
    /// # Errors
    /// What is wrong, in words; none of them shows a URL.
    pub fn open(
        given: &[String],
        ca_file: Option<&Path>,
        confirmations: Option<u64>,
    ) -> Result<Self, String> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| error.to_string());
        let mut sources = Vec::new();
        for one in given {
            sources.push(match one.contains("://") {
                true => Source::Url(one.clone()),
                false => Source::File(absolute(&PathBuf::from(one))?),
            });
        }
        let ca_file = ca_file.map(absolute).transpose()?;
        let finality = confirmations.map_or(Finality::Tag, |blocks| Finality::Blocks { blocks });
        let chain = Chain::open(&sources, ca_file.as_deref(), finality, DEADLINE).map_err(|failure| {
            let problem = match failure {
                Failure::Configuration { problem } => format!("the command line {problem}"),
                other => other.to_string(),
            };
            format!("--rpc: {problem}")
        })?;
        Ok(Self { chain, unreachable: OnceCell::new() })
    }
}

impl Blocks for Endpoints {
    fn ask(&self, chain_id: u64, number: u64, hash: &Hash) -> Block {
        if let Some(why) = self.unreachable.get() {
            return Block::Unknown(why.clone());
        }
        match self.chain.standing(chain_id, number, hash) {
            Ok((Standing::Final, endpoints)) => Block::Final(endpoints),
            Ok((Standing::NotFinal, _)) => Block::NotFinal,
            Ok((Standing::Other(found), _)) => Block::Other(found),
            Err(Failure::WrongChain { .. }) => Block::Elsewhere,
            Err(failure @ Failure::Unreachable { .. }) => {
                Block::Unknown(self.unreachable.get_or_init(|| failure.to_string()).clone())
            }
            Err(Failure::NoFinalTag { endpoint }) => Block::Unknown(format!(
                "endpoint {endpoint} does not know the block tag finalized: say --confirmations N"
            )),
            Err(failure) => Block::Unknown(failure.to_string()),
        }
    }
}
