//! Headers that a chain hashes without the seals of its validators. Each validator collects the seals of others for itself, so the chain leaves
//! them, and the round they are of, out of what it hashes, while nodes show `extraData` with all of it.
//!
//! Both rules are those of Besu; QBFT is also that of GoQuorum. Headers of Clique are hashed as they are. AuRa (fields of its own) and
//! IBFT 1 are not known here.

use alloy_primitives::Bytes;
use alloy_rlp::{Decodable, Header};
use serde::{Deserialize, Serialize};

use super::trie::{items, raw_list};

/// Place of `extraData` among the fields of a header.
const EXTRA_DATA: usize = 12;
/// RLP of zero, and of an empty text.
const ZERO: &[u8] = &[0x80];
/// RLP of an empty list.
const NOTHING: &[u8] = &[0xc0];

/// What is hashed in the place of `extraData`, which is RLP of: vanity, validators, vote, round, seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Besu's and GoQuorum's QBFT: round 0, and no seals.
    Qbft,
    /// Besu's IBFT 2.0: vanity, validators and vote alone.
    Ibft2,
}

impl Rule {
    /// Every rule there is.
    pub const ALL: [Self; 2] = [Self::Qbft, Self::Ibft2];

    /// A header as it is hashed; None if its `extraData` is not of this kind.
    #[must_use]
    pub fn hashed(self, header: &[u8]) -> Option<Vec<u8>> {
        let fields = items(header)?;
        let extra = extra_data(&fields)?;
        let [vanity, validators, vote, _, seals] = items(&extra)?[..] else { return None };
        if !is_list(validators) || !is_list(seals) {
            return None;
        }
        let hashed = match self {
            Self::Qbft => raw_list(&[vanity, validators, vote, ZERO, NOTHING]),
            Self::Ibft2 => raw_list(&[vanity, validators, vote]),
        };
        let hashed = alloy_rlp::encode(Bytes::from(hashed));
        let mut fields = fields;
        fields[EXTRA_DATA] = &hashed;
        Some(raw_list(&fields))
    }

    /// Whether a header is one as this rule hashes them.
    #[must_use]
    pub fn is_hashed(self, header: &[u8]) -> bool {
        let Some(extra) = items(header).and_then(|fields| extra_data(&fields)) else { return false };
        let Some(parts) = items(&extra) else { return false };
        match (self, &parts[..]) {
            (Self::Qbft, [_, validators, _, ZERO, NOTHING]) | (Self::Ibft2, [_, validators, _]) => {
                is_list(validators)
            }
            _ => false,
        }
    }
}

fn extra_data(fields: &[&[u8]]) -> Option<Bytes> {
    let mut field = *fields.get(EXTRA_DATA)?;
    Bytes::decode(&mut field).ok()
}

fn is_list(item: &[u8]) -> bool {
    let mut item = item;
    Header::decode(&mut item).is_ok_and(|header| header.list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        alloy_rlp::encode(Bytes::copy_from_slice(bytes))
    }

    fn header(extra: &[u8]) -> Vec<u8> {
        let (field, extra) = (text(&[7; 32]), text(extra));
        let mut fields = vec![field.as_slice(); 16];
        fields[EXTRA_DATA] = &extra;
        raw_list(&fields)
    }

    /// `extraData` as a node shows it: two validators, a vote, this round, two seals.
    fn shown(vote: &[u8], round: &[u8]) -> Vec<u8> {
        let (vanity, validator, seal) = (text(&[0; 32]), text(&[1; 20]), text(&[9; 65]));
        raw_list(&[&vanity, &raw_list(&[&validator, &validator]), vote, round, &raw_list(&[&seal, &seal])])
    }

    #[test]
    fn round_and_seals_are_not_hashed_and_a_vote_is() {
        let vote = raw_list(&[&text(&[3; 20]), &text(&[0xff])]);
        let (vanity, validator) = (text(&[0; 32]), text(&[1; 20]));
        let validators = raw_list(&[&validator, &validator]);
        for (vote, round) in [(vote.as_slice(), &[5][..]), (NOTHING, ZERO), (NOTHING, &[0x82, 1, 0])] {
            let hashed = Rule::Qbft.hashed(&header(&shown(vote, round))).unwrap();
            assert_eq!(hashed, header(&raw_list(&[&vanity, &validators, vote, &[0x80], &[0xc0]])));
            assert!(Rule::Qbft.is_hashed(&hashed) && !Rule::Ibft2.is_hashed(&hashed));
        }
        // IBFT 2.0 writes its round with four bytes, and no vote as an empty text.
        for vote in [vote.as_slice(), ZERO] {
            let hashed = Rule::Ibft2.hashed(&header(&shown(vote, &[0x84, 0, 0, 0, 2]))).unwrap();
            assert_eq!(hashed, header(&raw_list(&[&vanity, &validators, vote])));
            assert!(Rule::Ibft2.is_hashed(&hashed) && !Rule::Qbft.is_hashed(&hashed));
        }
    }

    #[test]
    fn extra_data_of_another_kind_and_what_is_no_header_have_no_such_form() {
        let seals = shown(NOTHING, ZERO);
        let mut longer = seals.clone();
        longer.push(0);
        let four = raw_list(&items(&seals).unwrap()[..4]);
        let no_lists = raw_list(&[ZERO, ZERO, ZERO, ZERO, ZERO]);
        for extra in [&b""[..], b"geth", &[0xc0], &longer, &four, &no_lists, &seals[..seals.len() - 1]] {
            for rule in Rule::ALL {
                assert_eq!(rule.hashed(&header(extra)), None, "{extra:?}");
                assert!(!rule.is_hashed(&header(extra)), "{extra:?}");
            }
        }
        for header in [&b""[..], &[0xc0], &[0xff; 9], &raw_list(&[ZERO; 12])] {
            for rule in Rule::ALL {
                assert!(rule.hashed(header).is_none() && !rule.is_hashed(header), "{header:?}");
            }
        }
    }
}
