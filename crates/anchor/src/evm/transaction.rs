//! Building and signing transactions: the only module that knows ethers-core, whose upstream is deprecated. Everything that leaves
//! it has been read back by [`super::signed`], which knows nothing of ethers-core.

use std::path::Path;

use alloy_primitives::{Address, Bytes};
use ethers_core::abi::{Abi, Token};
use ethers_core::k256::ecdsa::SigningKey;
use ethers_core::types::transaction::eip1559::Eip1559TransactionRequest;
use ethers_core::types::transaction::eip2718::TypedTransaction;
use ethers_core::types::{NameOrAddress, Signature, U256};
use ethers_core::utils::secret_key_to_address;
use serde_json::{Value, json};
use zeroauth_audit_transport::file;

use super::config::{Config, Signer as SignerConfig};
use super::rpc::{Rpc, quantity};
use super::signed::SignedTransaction;
use crate::driver::Fees;
use crate::failure::Failure;

/// A call or a new contract, not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// EIP-155's number of the chain.
    pub chain_id: u64,
    /// The account's nonce.
    pub nonce: u64,
    /// The offered fees.
    pub fees: Fees,
    /// The gas limit.
    pub gas: u64,
    /// The contract; None makes a new one.
    pub to: Option<Address>,
    /// The call, or the code.
    pub input: Bytes,
}

/// A signer.
pub trait Signer: Send {
    /// The account.
    fn address(&self) -> Address;

    /// The signed transaction: exactly the given one, signed by the account.
    fn sign(&self, unsigned: &Unsigned) -> Result<SignedTransaction, Failure>;
}

/// The signer of a configuration. Its files are read now.
pub fn signer(config: &Config) -> Result<Box<dyn Signer>, Failure> {
    match &config.signer {
        SignerConfig::Raw { key_file } => Ok(Box::new(LocalSigner::from_raw(key_file)?)),
        SignerConfig::Keystore { key_file, password_file } => {
            Ok(Box::new(LocalSigner::from_keystore(key_file, password_file)?))
        }
        SignerConfig::Remote { url_file, address } => {
            let number = config.rpc_url_files.len() + 1;
            let rpc = Rpc::open(number, url_file, config.ca_file.as_deref(), config.deadline())?;
            Ok(Box::new(RemoteSigner { rpc, address: *address }))
        }
    }
}

/// A key in this process.
pub struct LocalSigner(SigningKey);

fn unusable(reason: &str) -> Failure {
    Failure::File { reason: reason.into() }
}

impl LocalSigner {
    /// From a file with 64 hexadecimal digits, with or without `0x`.
    pub fn from_raw(path: &Path) -> Result<Self, Failure> {
        let secret = file::secret(path, "key").map_err(|reason| Failure::File { reason })?;
        let digits = secret.text().map(str::trim).unwrap_or_default();
        let bytes = hex::decode(digits.strip_prefix("0x").unwrap_or(digits)).unwrap_or_default();
        Self::from_bytes(&bytes)
            .ok_or_else(|| unusable("the key file does not hold one key of 64 hexadecimal digits"))
    }

    /// From an encrypted key and its password.
    pub fn from_keystore(path: &Path, password: &Path) -> Result<Self, Failure> {
        let read = |path, what| file::secret(path, what).map_err(|reason| Failure::File { reason });
        // The crate opens the file by itself; its owner and mode are checked before.
        read(path, "key")?;
        let password = read(password, "password")?;
        let bytes = eth_keystore::decrypt_key(path, password.bytes()).map_err(|error| match error {
            eth_keystore::KeystoreError::MacMismatch => unusable("the password does not open the key file"),
            _ => unusable("the key file is no encrypted key of version 3"),
        })?;
        Self::from_bytes(&bytes).ok_or_else(|| unusable("the key file does not hold a key"))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // The crate pads a key that is too short.
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        SigningKey::from_slice(bytes).ok().map(Self)
    }
}

impl Signer for LocalSigner {
    fn address(&self) -> Address {
        Address::from(secret_key_to_address(&self.0).0)
    }

    fn sign(&self, unsigned: &Unsigned) -> Result<SignedTransaction, Failure> {
        let mut request = Eip1559TransactionRequest::new()
            .chain_id(unsigned.chain_id)
            .nonce(unsigned.nonce)
            .max_fee_per_gas(unsigned.fees.max_fee)
            .max_priority_fee_per_gas(unsigned.fees.max_priority_fee)
            .gas(unsigned.gas)
            .value(0)
            .data(unsigned.input.to_vec());
        if let Some(to) = unsigned.to {
            request = request.to(NameOrAddress::Address(to.into_array().into()));
        }
        let transaction = TypedTransaction::Eip1559(request);
        let failed = || Failure::Defect { what: "signing failed".into() };
        let (signature, recovery) =
            self.0.sign_prehash_recoverable(transaction.sighash().as_bytes()).map_err(|_| failed())?;
        let signature = Signature {
            r: U256::from_big_endian(&signature.r().to_bytes()),
            s: U256::from_big_endian(&signature.s().to_bytes()),
            v: u64::from(recovery.to_byte()),
        };
        checked(&transaction.rlp_signed(&signature), unsigned, self.address()).ok_or_else(failed)
    }
}

/// A signer elsewhere, which is not trusted to sign exactly the given transaction.
struct RemoteSigner {
    rpc: Rpc,
    address: Address,
}

impl Signer for RemoteSigner {
    fn address(&self) -> Address {
        self.address
    }

    fn sign(&self, unsigned: &Unsigned) -> Result<SignedTransaction, Failure> {
        const METHOD: &str = "eth_signTransaction";
        let mut request = json!({
            "type": "0x2",
            "from": self.address,
            "chainId": quantity(unsigned.chain_id),
            "nonce": quantity(unsigned.nonce),
            "maxFeePerGas": quantity(unsigned.fees.max_fee),
            "maxPriorityFeePerGas": quantity(unsigned.fees.max_priority_fee),
            "gas": quantity(unsigned.gas),
            "value": "0x0",
            "data": unsigned.input,
        });
        if let Some(to) = unsigned.to {
            request["to"] = json!(to);
        }
        let answer: Value = self.rpc.get(METHOD, json!([request]))?;
        // Some answer with the bytes alone, others with an object around them.
        let raw = answer.get("raw").unwrap_or(&answer).as_str().and_then(|raw| raw.parse::<Bytes>().ok());
        raw.and_then(|raw| checked(&raw, unsigned, self.address))
            .ok_or_else(|| self.rpc.bad(METHOD, "is not the transaction it was to sign"))
    }
}

/// Reads `bytes` back, and returns them only if they are exactly the given transaction, signed by the expected account.
fn checked(bytes: &[u8], unsigned: &Unsigned, address: Address) -> Option<SignedTransaction> {
    let signed = SignedTransaction::from_bytes(bytes)?;
    let to = unsigned.to.map(|to| to.to_vec()).unwrap_or_default();
    let same = signed.chain_id == unsigned.chain_id
        && signed.nonce == unsigned.nonce
        && signed.max_fee_per_gas == alloy_primitives::U256::from(unsigned.fees.max_fee)
        && signed.max_priority_fee_per_gas == alloy_primitives::U256::from(unsigned.fees.max_priority_fee)
        && signed.gas_limit == unsigned.gas
        && *signed.to == *to
        && signed.value.is_zero()
        && signed.input == unsigned.input
        && signed.access_list.is_empty()
        && signed.to_bytes() == bytes
        && signed.sender() == Some(address);
    same.then_some(signed)
}

/// The code that makes a contract, with its constructor's arguments.
pub fn creation(artifact: &Value, owner: Address, log_id: [u8; 32], anchorer: Address) -> Option<Bytes> {
    let abi: Abi = serde_json::from_value(artifact.get("abi")?.clone()).ok()?;
    let code = hex::decode(artifact.get("bytecode")?.as_str()?.strip_prefix("0x")?).ok()?;
    let address = |address: Address| Token::Address(address.into_array().into());
    let arguments = [address(owner), Token::FixedBytes(log_id.to_vec()), address(anchorer)];
    abi.constructor()?.encode_input(code, &arguments).ok().map(Bytes::from)
}
