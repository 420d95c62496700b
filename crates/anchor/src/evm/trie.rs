//! Headers and receipts as the chain hashes them: RLP, and proofs in a receipts trie. Making them needs every field that a chain
//! has; checking them does not.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_rlp::{BufMut, Decodable, Encodable, Header, RlpDecodable, RlpEncodable};
use alloy_trie::proof::{ProofRetainer, verify_proof};
use alloy_trie::{HashBuilder, Nibbles};

use super::answer::{Block, Receipt};

/// The type of deposits of optimistic rollups.
const DEPOSIT: u64 = 0x7e;
/// No honest proof is deeper: a key is at most four bytes long.
const MOST_NODES: usize = 16;

fn list(items: &[&dyn Encodable]) -> Vec<u8> {
    let mut payload = Vec::new();
    items.iter().for_each(|item| item.encode(&mut payload));
    let mut out = Vec::with_capacity(payload.len() + 9);
    Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.put_slice(&payload);
    out
}

/// A list of items that are RLP already.
#[must_use]
pub fn raw_list(items: &[&[u8]]) -> Vec<u8> {
    let payload = items.concat();
    let mut out = Vec::with_capacity(payload.len() + 9);
    Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.put_slice(&payload);
    out
}

/// The items of a list, each as RLP; None unless it is a list and nothing else.
#[must_use]
pub fn items(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = bytes;
    let mut payload = Header::decode_bytes(&mut rest, true).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut items = Vec::new();
    while !payload.is_empty() {
        let before = payload;
        let item = Header::decode(&mut payload).ok()?;
        let after = payload.get(item.payload_length..)?;
        items.push(&before[..before.len() - after.len()]);
        payload = after;
    }
    Some(items)
}

/// The header as RLP, if it has no fields that are not known here, and is hashed as it is: then its hash is the block's.
#[must_use]
pub fn header(block: &Block) -> Option<Vec<u8>> {
    let header = write_header(block);
    (keccak256(&header) == block.hash).then_some(header)
}

/// The header of these fields as RLP, whatever its hash is.
#[must_use]
pub fn write_header(block: &Block) -> Vec<u8> {
    let number = |value: &alloy_primitives::U64| value.to::<u64>();
    let (height, limit, used, time) =
        (number(&block.number), number(&block.gas_limit), number(&block.gas_used), number(&block.timestamp));
    let mut items: Vec<&dyn Encodable> = vec![
        &block.parent_hash,
        &block.sha3_uncles,
        &block.miner,
        &block.state_root,
        &block.transactions_root,
        &block.receipts_root,
        &block.logs_bloom,
        &block.difficulty,
        &height,
        &limit,
        &used,
        &time,
        &block.extra_data,
        &block.mix_hash,
        &block.nonce,
    ];
    let blob_gas_used = block.blob_gas_used.as_ref().map(number);
    let excess_blob_gas = block.excess_blob_gas.as_ref().map(number);
    // Each fork appended fields; none of a later one comes without all of the earlier ones.
    let slot = block.slot_number.as_ref().map(number);
    let later: [Option<&dyn Encodable>; 8] = [
        block.base_fee_per_gas.as_ref().map(|item| item as _),
        block.withdrawals_root.as_ref().map(|item| item as _),
        blob_gas_used.as_ref().map(|item| item as _),
        excess_blob_gas.as_ref().map(|item| item as _),
        block.parent_beacon_block_root.as_ref().map(|item| item as _),
        block.requests_hash.as_ref().map(|item| item as _),
        // EIP-7928 and EIP-7843.
        block.block_access_list_hash.as_ref().map(|item| item as _),
        slot.as_ref().map(|item| item as _),
    ];
    items.extend(later.into_iter().map_while(|item| item));
    list(&items)
}

/// What a checker needs of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFields {
    /// Root of the receipts trie.
    pub receipts_root: B256,
    /// Number of the block.
    pub number: u64,
    /// Its time, in seconds.
    pub timestamp: u64,
}

/// Reads a header, whatever fields follow: later forks only append.
#[must_use]
pub fn read_header(bytes: &[u8]) -> Option<HeaderFields> {
    let fields = items(bytes)?;
    let receipts_root = field(&fields, 5)?;
    let number = field(&fields, 8)?;
    let timestamp = field(&fields, 11)?;
    (fields.len() >= 15).then_some(HeaderFields { receipts_root, number, timestamp })
}

fn field<T: Decodable>(fields: &[&[u8]], at: usize) -> Option<T> {
    let mut bytes = *fields.get(at)?;
    T::decode(&mut bytes).ok()
}

#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
struct PlainLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

/// A receipt as the trie has it.
#[must_use]
pub fn receipt(receipt: &Receipt) -> Vec<u8> {
    let (status, gas) = (receipt.status.to::<u64>() == 1, receipt.cumulative_gas_used.to::<u64>());
    let logs: Vec<PlainLog> = receipt
        .logs
        .iter()
        .map(|log| PlainLog { address: log.address, topics: log.topics.clone(), data: log.data.clone() })
        .collect();
    let kind = receipt.kind.to::<u64>();
    let (nonce, version) = (
        receipt.deposit_nonce.map(|number| number.to::<u64>()),
        receipt.deposit_receipt_version.map(|number| number.to::<u64>()),
    );
    let mut items: Vec<&dyn Encodable> = vec![&status, &gas, &receipt.logs_bloom, &logs];
    if kind == DEPOSIT {
        items.extend(nonce.as_ref().map(|item| item as &dyn Encodable));
        items.extend(version.as_ref().map(|item| item as &dyn Encodable));
    }
    let list = list(&items);
    match u8::try_from(kind) {
        Ok(kind) if kind != 0 => [&[kind], &*list].concat(),
        _ => list,
    }
}

/// One event of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "by their usual names")]
pub struct Event {
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
}

/// Reads a receipt of a transaction that succeeded: its events.
#[must_use]
pub fn read_receipt(bytes: &[u8]) -> Option<Vec<Event>> {
    let mut rest = match bytes.first()? {
        0..=0x7f => &bytes[1..],
        _ => bytes,
    };
    let mut items = Header::decode_bytes(&mut rest, true).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let status = bool::decode(&mut items).ok()?;
    u64::decode(&mut items).ok()?;
    let bloom = Header::decode_bytes(&mut items, false).ok()?;
    let logs = Vec::<PlainLog>::decode(&mut items).ok()?;
    let events =
        logs.into_iter().map(|log| Event { address: log.address, topics: log.topics, data: log.data });
    (status && bloom.len() == 256).then(|| events.collect())
}

fn key(index: u64) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode(index))
}

/// The root of the trie of these receipts, which are all of a block and in their order, and the proof of one of them.
#[must_use]
pub fn prove(receipts: &[Vec<u8>], index: u64) -> (B256, Vec<Bytes>) {
    let retainer = ProofRetainer::new(vec![key(index)]);
    let mut builder = HashBuilder::default().with_proof_retainer(retainer);
    let mut leaves: Vec<_> = (0..).zip(receipts).map(|(index, receipt)| (key(index), receipt)).collect();
    leaves.sort();
    for (key, receipt) in leaves {
        builder.add_leaf(key, receipt);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    (root, nodes.into_iter().map(|(_, node)| node).collect())
}

/// Whether `receipt` is the one at `index` in the trie with this root.
#[must_use]
pub fn is_proven(root: B256, index: u64, receipt: &[u8], proof: &[Bytes]) -> bool {
    proof.len() <= MOST_NODES && verify_proof(root, key(index), Some(receipt.to_vec()), proof).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A text of RLP, by hand.
    fn text(bytes: &[u8]) -> Vec<u8> {
        match bytes {
            [byte] if *byte < 0x80 => vec![*byte],
            _ if bytes.len() < 56 => [&[0x80 + bytes.len() as u8], bytes].concat(),
            _ => [&[0xb9, (bytes.len() >> 8) as u8, bytes.len() as u8], bytes].concat(),
        }
    }

    #[test]
    fn public_report_d11_a_header_of_the_fork_with_access_lists_and_slots_has_its_hash() {
        let hash = |number: u8| format!("0x{}", hex::encode([number; 32]));
        let mut fields: Vec<Vec<u8>> = Vec::new();
        for number in 1..=2 {
            fields.push(text(&[number; 32]));
        }
        fields.push(text(&[3; 20]));
        for number in 4..=6 {
            fields.push(text(&[number; 32]));
        }
        fields.push(text(&[7; 256]));
        for bytes in [&[][..], &[9, 0], &[10], &[11], &[12, 13, 14, 15]] {
            fields.push(text(bytes));
        }
        fields.push(text(b"extra"));
        fields.push(text(&[14; 32]));
        fields.push(text(&[0; 8]));
        fields.push(text(&[16]));
        fields.push(text(&[17; 32]));
        fields.push(text(&[18]));
        fields.push(text(&[]));
        for number in 20..=22 {
            fields.push(text(&[number; 32]));
        }
        fields.push(text(&[1, 2, 3]));
        assert_eq!(fields.len(), 23);
        let payload = fields.concat();
        let header_of_23 = [&[0xf9, (payload.len() >> 8) as u8, payload.len() as u8], &*payload].concat();
        let block = json!({
            "hash": keccak256(&header_of_23), "parentHash": hash(1), "sha3Uncles": hash(2), "miner": format!("0x{}", "03".repeat(20)),
            "stateRoot": hash(4), "transactionsRoot": hash(5), "receiptsRoot": hash(6), "logsBloom": format!("0x{}", "07".repeat(256)),
            "difficulty": "0x0", "number": "0x900", "gasLimit": "0xa", "gasUsed": "0xb", "timestamp": "0xc0d0e0f",
            "extraData": format!("0x{}", hex::encode("extra")), "mixHash": hash(14), "nonce": "0x0000000000000000", "baseFeePerGas": "0x10",
            "withdrawalsRoot": hash(17), "blobGasUsed": "0x12", "excessBlobGas": "0x0", "parentBeaconBlockRoot": hash(20),
            "requestsHash": hash(21), "blockAccessListHash": hash(22), "slotNumber": "0x10203",
            "transactions": [], "withdrawals": [], "size": "0x400", "uncles": [],
        });
        let whole: Block = serde_json::from_value(block.clone()).unwrap();
        assert_eq!(header(&whole).as_deref(), Some(&*header_of_23));
        let read = read_header(&header_of_23).unwrap();
        assert_eq!((read.number, read.timestamp, read.receipts_root.0), (0x900, 0xc0d_0e0f, [6; 32]));
        // Without one of them it is not the block's.
        for key in ["blockAccessListHash", "slotNumber", "requestsHash"] {
            let mut lacking = block.clone();
            lacking[key].take();
            let lacking: Block = serde_json::from_value(lacking).unwrap();
            assert_eq!(header(&lacking), None, "{key}");
        }
    }
}
