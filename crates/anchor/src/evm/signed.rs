//! A signed transaction of EIP-1559 as bytes: read strictly, written, and by whom it was signed. The verifier's own reading, apart
//! from what builds transactions.

use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

/// EIP-2718's first byte of these transactions.
const TYPE: u8 = 2;

/// The fields in their order, as EIP-1559 has them.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
#[allow(missing_docs, reason = "by their usual names")]
pub struct SignedTransaction {
    pub chain_id: u64,
    pub nonce: u64,
    pub max_priority_fee_per_gas: U256,
    pub max_fee_per_gas: U256,
    pub gas_limit: u64,
    /// 20 bytes, or none for a new contract.
    pub to: Bytes,
    pub value: U256,
    pub input: Bytes,
    pub access_list: Vec<Access>,
    pub y_parity: bool,
    pub r: U256,
    pub s: U256,
}

/// EIP-2930; unused here, and still part of the format.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
#[allow(missing_docs, reason = "by their usual names")]
pub struct Access {
    pub address: Address,
    pub storage_keys: Vec<B256>,
}

#[derive(RlpEncodable)]
struct Unsigned<'a> {
    chain_id: u64,
    nonce: u64,
    max_priority_fee_per_gas: U256,
    max_fee_per_gas: U256,
    gas_limit: u64,
    to: &'a Bytes,
    value: U256,
    input: &'a Bytes,
    access_list: &'a Vec<Access>,
}

impl SignedTransaction {
    /// Reads exactly one transaction.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let transaction = Self::decode(&mut rest).ok()?;
        (*kind == TYPE && rest.is_empty() && matches!(transaction.to.len(), 0 | 20)).then_some(transaction)
    }

    /// The bytes that are sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![TYPE];
        self.encode(&mut bytes);
        bytes
    }

    /// The transaction's hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(self.to_bytes())
    }

    /// Who signed it.
    #[must_use]
    pub fn sender(&self) -> Option<Address> {
        let signature = Signature::new(self.r, self.s, self.y_parity);
        // EIP-2: the other form of a signature would give one transaction two hashes.
        if signature.normalize_s().is_some() {
            return None;
        }
        let mut bytes = vec![TYPE];
        Unsigned {
            chain_id: self.chain_id,
            nonce: self.nonce,
            max_priority_fee_per_gas: self.max_priority_fee_per_gas,
            max_fee_per_gas: self.max_fee_per_gas,
            gas_limit: self.gas_limit,
            to: &self.to,
            value: self.value,
            input: &self.input,
            access_list: &self.access_list,
        }
        .encode(&mut bytes);
        signature.recover_address_from_prehash(&keccak256(bytes)).ok()
    }
}
