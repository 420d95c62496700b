//! RFC 3161's requests, responses and TSTInfo, as DER.

use std::time::Duration;

use cms::content_info::ContentInfo;
use der::asn1::{BitString, Int, ObjectIdentifier, OctetString};
use der::{
    Any, AnyRef, Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Sequence, Tag,
    Writer,
};
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// SHA-256.
pub const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// `MessageImprint`
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[allow(missing_docs, reason = "by RFC 3161's names")]
pub struct MessageImprint {
    pub hash_algorithm: AlgorithmIdentifierOwned,
    pub hashed_message: OctetString,
}

impl MessageImprint {
    /// Of a SHA-256.
    pub fn sha256(hash: &[u8; 32]) -> der::Result<Self> {
        let hash_algorithm =
            AlgorithmIdentifierOwned { oid: SHA256, parameters: Some(Any::from(AnyRef::NULL)) };
        Ok(Self { hash_algorithm, hashed_message: OctetString::new(hash.as_slice())? })
    }

    /// Whether it is of this SHA-256, with or without the parameters that some leave out.
    #[must_use]
    pub fn is_sha256(&self, hash: &[u8; 32]) -> bool {
        self.hash_algorithm.oid == SHA256 && self.hashed_message.as_bytes() == hash
    }
}

/// `TimeStampReq`
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[allow(missing_docs, reason = "by RFC 3161's names")]
pub struct TimeStampReq {
    pub version: u8,
    pub message_imprint: MessageImprint,
    #[asn1(optional = "true")]
    pub req_policy: Option<ObjectIdentifier>,
    #[asn1(optional = "true")]
    pub nonce: Option<Int>,
    #[asn1(default = "Default::default")]
    pub cert_req: bool,
}

impl TimeStampReq {
    /// A request for a token with its certificates. The nonce is a positive number: its first bit is cleared, and no byte of it is
    /// left out.
    pub fn new(hash: &[u8; 32], nonce: [u8; 8], policy: Option<ObjectIdentifier>) -> der::Result<Self> {
        let mut nonce = nonce;
        // 01xxxxxx: neither a sign nor a zero that DER would drop.
        nonce[0] = nonce[0] & 0x3f | 0x40;
        Ok(Self {
            version: 1,
            message_imprint: MessageImprint::sha256(hash)?,
            req_policy: policy,
            nonce: Some(Int::new(&nonce)?),
            cert_req: true,
        })
    }
}

/// `TimeStampResp`
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[allow(missing_docs, reason = "by RFC 3161's names")]
pub struct TimeStampResp {
    pub status: PkiStatusInfo,
    #[asn1(optional = "true")]
    pub time_stamp_token: Option<ContentInfo>,
}

/// `PKIStatusInfo`
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[allow(missing_docs, reason = "by RFC 3161's names")]
pub struct PkiStatusInfo {
    pub status: u8,
    #[asn1(optional = "true")]
    pub status_string: Option<Vec<Any>>,
    #[asn1(optional = "true")]
    pub fail_info: Option<BitString>,
}

impl PkiStatusInfo {
    /// granted, or granted with modifications.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.status <= 1
    }

    /// In RFC 3161's words; what the authority wrote is not repeated.
    #[must_use]
    pub fn words(&self) -> String {
        const FAILURES: [(usize, &str); 8] = [
            (0, "badAlg"),
            (2, "badRequest"),
            (5, "badDataFormat"),
            (14, "timeNotAvailable"),
            (15, "unacceptedPolicy"),
            (16, "unacceptedExtension"),
            (17, "addInfoNotAvailable"),
            (25, "systemFailure"),
        ];
        let status = match self.status {
            0 => "granted",
            1 => "grantedWithMods",
            2 => "rejection",
            3 => "waiting",
            4 => "revocationWarning",
            5 => "revocationNotification",
            _ => "an unknown status",
        };
        let bits: Vec<bool> = self.fail_info.iter().flat_map(BitString::bits).collect();
        let failures =
            FAILURES.iter().filter(|(bit, _)| bits.get(*bit) == Some(&true)).map(|(_, name)| *name);
        let failures: Vec<&str> = failures.collect();
        if failures.is_empty() { status.into() } else { format!("{status} ({})", failures.join(", ")) }
    }
}

/// `TSTInfo`
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[allow(missing_docs, reason = "by RFC 3161's names")]
pub struct TstInfo {
    pub version: u8,
    pub policy: ObjectIdentifier,
    pub message_imprint: MessageImprint,
    pub serial_number: Int,
    pub gen_time: GenTime,
    #[asn1(optional = "true")]
    pub accuracy: Option<Accuracy>,
    #[asn1(default = "Default::default")]
    pub ordering: bool,
    #[asn1(optional = "true")]
    pub nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub tsa: Option<GeneralName>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub extensions: Option<Extensions>,
}

/// `Accuracy`
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[allow(missing_docs, reason = "by RFC 3161's names")]
pub struct Accuracy {
    #[asn1(optional = "true")]
    pub seconds: Option<u64>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub millis: Option<u16>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub micros: Option<u16>,
}

/// A GeneralizedTime that may have a fraction of a second, as RFC 3161 (2.4.2) has it and DER's usual reader does not: the text, and
/// the whole seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenTime {
    text: String,
    seconds: u64,
}

impl GenTime {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text.strip_suffix('Z')?, None),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fraction_holds = fraction.is_none_or(|text| (1..=9).contains(&text.len()) && digits(text));
        if whole.len() != 14 || !digits(whole) || !fraction_holds {
            return None;
        }
        let part = |from: usize, to: usize| whole.get(from..to).and_then(|text| text.parse::<u16>().ok());
        let small = |from: usize| part(from, from + 2).and_then(|number| u8::try_from(number).ok());
        let time =
            der::DateTime::new(part(0, 4)?, small(4)?, small(6)?, small(8)?, small(10)?, small(12)?).ok()?;
        Some(Self { text: text.into(), seconds: Duration::as_secs(&time.unix_duration()) })
    }
}

impl FixedTag for GenTime {
    const TAG: Tag = Tag::GeneralizedTime;
}

impl<'a> DecodeValue<'a> for GenTime {
    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        let bytes = reader.read_vec(header.length)?;
        let time = std::str::from_utf8(&bytes).ok().and_then(Self::parse);
        time.ok_or_else(|| Self::TAG.value_error())
    }
}

impl EncodeValue for GenTime {
    fn value_len(&self) -> der::Result<Length> {
        Length::try_from(self.text.len())
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        writer.write(self.text.as_bytes())
    }
}

/// Reads exactly one value of DER.
pub(super) fn read<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Option<T> {
    T::from_der(bytes).ok()
}

/// Writes DER.
pub(super) fn write(value: &impl Encode) -> Option<Vec<u8>> {
    value.to_der().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_fractions_are_read_and_nonsense_is_not() {
        let seconds = |text: &str| GenTime::parse(text).map(|time| time.seconds);
        assert_eq!(seconds("20260101000000Z"), Some(1_767_225_600));
        for fraction in [".5", ".123", ".000001", ".123456789"] {
            assert_eq!(seconds(&format!("20260101000000{fraction}Z")), Some(1_767_225_600), "{fraction}");
        }
        for nonsense in [
            "20260101000000",
            "20260101000000.Z",
            "20260101000000.1234567890Z",
            "20260101000000.-1Z",
            "20261301000000Z",
            "20260230000000Z",
            "202601010000Z",
            "2026010100000.0Z",
            "20260101000000+0000",
            "+0260101000000Z",
            "\u{661}0260101000000Z",
            "",
        ] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_nonce_is_a_positive_number_of_eight_bytes_whatever_was_drawn() {
        for drawn in [[0; 8], [0xff; 8], [0x80, 0, 0, 0, 0, 0, 0, 0]] {
            let request = TimeStampReq::new(&[7; 32], drawn, None).unwrap();
            let bytes = request.to_der().unwrap();
            let again: TimeStampReq = read(&bytes).unwrap();
            let nonce = again.nonce.unwrap();
            assert_eq!((nonce.as_bytes().len(), nonce.as_bytes()[0] >> 6), (8, 1));
        }
    }
}
