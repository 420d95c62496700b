//! Checks a time-stamp token (RFC 3161, 2.4.2; RFC 5652, 5.4 and 5.6; RFC 5035), against the trusted authorities, at the
//! time in the token. Hostile input gives an error, never a panic.
//!
//! Revocation is not checked: it would need the network, and lists as old as the token.

use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{EncapsulatedContentInfo, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Encode, Sequence, Tagged};
use pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use ring::digest::{self, digest};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectKeyIdentifier};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::ecdsa;
use super::message::{TstInfo, read, write};
use crate::evidence::Error;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// The same, as the value of its DER.
const TIME_STAMPING_DER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA384: &str = "2.16.840.1.101.3.4.2.2";
const SHA512: &str = "2.16.840.1.101.3.4.2.3";

/// More than any token with its certificates.
pub const MOST_BYTES: usize = 256 << 10;

/// The content of a token that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// When, in whole seconds since 1970.
    pub seconds: u64,
    /// The authority's number of the token, in hexadecimal digits.
    pub serial: String,
    /// The authority's policy.
    pub policy: String,
    /// Who signed: the subject of the certificate.
    pub authority: String,
}

/// Who is trusted to vouch for authorities: certificates, each as DER.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities(Vec<Vec<u8>>);

impl Authorities {
    /// The certificates of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        use pki_types::pem::PemObject;
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(pem).map(|found| found.map(|der| der.to_vec())).collect();
        let authorities = Self(certificates.map_err(|_| Error::Malformed("the file of authorities"))?);
        if authorities.anchors().is_ok_and(|anchors| !anchors.is_empty()) {
            return Ok(authorities);
        }
        Err(Error::Malformed("the file of authorities"))
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn anchors(&self) -> Result<Vec<TrustAnchor<'static>>, Error> {
        let anchor = |der: &Vec<u8>| {
            let der = CertificateDer::from(der.as_slice());
            anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned())
        };
        self.0
            .iter()
            .map(anchor)
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Malformed("a trusted certificate"))
    }
}

/// RFC 5652's SignedData, its certificates as the very bytes that were signed.
#[derive(Clone, Debug, Sequence)]
struct SignedData {
    version: CmsVersion,
    digest_algorithms: SetOfVec<AlgorithmIdentifierOwned>,
    encap_content_info: EncapsulatedContentInfo,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    certificates: Option<SetOfVec<Any>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    crls: Option<SetOfVec<Any>>,
    signer_infos: SetOfVec<SignerInfo>,
}

/// RFC 2634's and RFC 5035's list of certificates, of which the first is the signer's.
#[derive(Clone, Debug, Sequence)]
struct SigningCertificate {
    certs: Vec<EssCertId>,
    #[asn1(optional = "true")]
    policies: Option<Any>,
}

/// ESSCertID and ESSCertIDv2: the first has no algorithm, and means SHA-1; the second without one means SHA-256.
#[derive(Clone, Debug, Sequence)]
struct EssCertId {
    #[asn1(optional = "true")]
    hash_algorithm: Option<AlgorithmIdentifierOwned>,
    cert_hash: OctetString,
    #[asn1(optional = "true")]
    issuer_serial: Option<Any>,
}

/// Checks `token`: that it is of `hash` (a SHA-256), has `nonce` if one is given, and is signed by someone for whom `trusted`
/// vouch at the time in the token.
pub fn verify(
    token: &[u8],
    hash: &[u8; 32],
    nonce: Option<&[u8]>,
    trusted: &Authorities,
) -> Result<VerifiedToken, Error> {
    use Error::{DoesNotHold as Bad, Malformed, NotTrusted};
    if token.len() > MOST_BYTES {
        return Err(Malformed("the token is too large"));
    }
    // The structure, from the outside in.
    let outer: ContentInfo = read(token).ok_or(Malformed("the token"))?;
    if outer.content_type != SIGNED_DATA {
        return Err(Malformed("the token is no SignedData"));
    }
    let signed = write(&outer.content).ok_or(Malformed("the token"))?;
    let signed: SignedData = read(&signed).ok_or(Malformed("the SignedData"))?;
    if signed.encap_content_info.econtent_type != TST_INFO {
        return Err(Malformed("the content is no TSTInfo"));
    }
    let content = signed.encap_content_info.econtent.as_ref().ok_or(Malformed("there is no content"))?;
    let content: OctetString = content.decode_as().map_err(|_| Malformed("the content"))?;
    let info: TstInfo = read(content.as_bytes()).ok_or(Malformed("the TSTInfo"))?;
    // RFC 5652, 5.1: the parts that no signature covers have their required values.
    if signed.version < CmsVersion::V3 {
        return Err(Malformed("the version of the SignedData"));
    }
    let [signer] = signed.signer_infos.as_slice() else { return Err(Bad("there is not exactly one signer")) };

    let version = match signer.sid {
        SignerIdentifier::IssuerAndSerialNumber(_) => CmsVersion::V1,
        SignerIdentifier::SubjectKeyIdentifier(_) => CmsVersion::V3,
    };
    if signer.version != version {
        return Err(Malformed("the version of the SignerInfo"));
    }

    // RFC 3161, 2.4.2: it is of our data, and of our request.
    if info.version != 1 {
        return Err(Error::Unknown);
    }
    if !info.message_imprint.is_sha256(hash) {
        return Err(Bad("the token is of other data"));
    }
    if nonce.is_some() && info.nonce.as_ref().map(|nonce| nonce.as_bytes()) != nonce {
        return Err(Bad("the token has another nonce"));
    }

    // RFC 5652, 5.3: the signer's certificate is among those that came with it.
    let certificates = certificates(&signed)?;
    let (der, certificate) = certificates
        .iter()
        .find(|(_, certificate)| is_of(certificate, &signer.sid))
        .ok_or(Bad("the signer's certificate is not in the token"))?;
    may_stamp(certificate)?;

    // RFC 5652, 5.4 and 5.6: the signed attributes are of this content, and of this certificate.
    let attributes = signer.signed_attrs.as_ref().ok_or(Bad("nothing but the content is signed"))?;
    let content_type: ObjectIdentifier = one(attributes.iter(), CONTENT_TYPE)?
        .and_then(|value| value.decode_as().ok())
        .ok_or(Bad("the signed type of the content"))?;
    let message_digest: OctetString = one(attributes.iter(), MESSAGE_DIGEST)?
        .and_then(|value| value.decode_as().ok())
        .ok_or(Bad("the signed digest"))?;
    let algorithm = digest_of(&signer.digest_alg.oid.to_string()).ok_or(Bad("the digest algorithm"))?;
    if !signed.digest_algorithms.iter().any(|listed| is_plain(listed) && listed.oid == signer.digest_alg.oid)
        || !is_plain(&signer.digest_alg)
    {
        return Err(Bad("the digest algorithm is not among those of the token"));
    }
    if content_type != TST_INFO || message_digest.as_bytes() != digest(algorithm, content.as_bytes()).as_ref()
    {
        return Err(Bad("the content was changed"));
    }
    is_bound(attributes.iter(), der)?;

    // The signature, and who vouches for the signer at that time.
    let der = CertificateDer::from(der.as_slice());
    let end_entity = EndEntityCert::try_from(&der).map_err(|_| Malformed("the signer's certificate"))?;
    let message = attributes.to_der().map_err(|_| Malformed("the signed attributes"))?;
    let signature = signer.signature.as_bytes();
    let algorithms = algorithms(signer).ok_or(Bad("the signature algorithm"))?;
    if !algorithms
        .iter()
        .any(|algorithm| end_entity.verify_signature(*algorithm, &message, signature).is_ok())
    {
        return Err(Bad("the signature"));
    }
    let others: Vec<CertificateDer<'_>> =
        certificates.iter().map(|(der, _)| CertificateDer::from(der.as_slice())).collect();
    let seconds = info.gen_time.seconds();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let anchors = trusted.anchors()?;
    // The signer's own usage was looked at; certificates above it may be for anything, unless they say for what.
    let usage = KeyUsage::required_if_present(TIME_STAMPING_DER);
    end_entity.verify_for_usage(PATH_ALGORITHMS, &anchors, &others, time, usage, None, None).map_err(
        |error| {
            NotTrusted(match error {
                webpki::Error::CertExpired { .. } => "a certificate had expired at that time",
                webpki::Error::CertNotValidYet { .. } => "a certificate was not valid yet at that time",
                webpki::Error::RequiredEkuNotFoundContext(_) => "a certificate is not for time stamps",
                _ => "no path of certificates leads to a trusted one",
            })
        },
    )?;
    Ok(VerifiedToken {
        seconds,
        serial: hex::encode(info.serial_number.as_bytes()),
        policy: info.policy.to_string(),
        authority: certificate.tbs_certificate.subject.to_string(),
    })
}

/// RFC 5754, 2: a digest has no parameters, or NULL.
fn is_plain(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.parameters.as_ref().is_none_or(|parameters| parameters.is_null())
}

fn certificates(signed: &SignedData) -> Result<Vec<(Vec<u8>, Certificate)>, Error> {
    let mut certificates = Vec::new();
    for any in signed.certificates.iter().flat_map(|set| set.iter()) {
        // Other kinds of certificates may come along; they are of no use here.
        if any.tag() == der::Tag::Sequence {
            let der = write(any).ok_or(Error::Malformed("a certificate"))?;
            let certificate = read(&der).ok_or(Error::Malformed("a certificate"))?;
            certificates.push((der, certificate));
        }
    }
    Ok(certificates)
}

fn is_of(certificate: &Certificate, sid: &SignerIdentifier) -> bool {
    let body = &certificate.tbs_certificate;
    match sid {
        SignerIdentifier::IssuerAndSerialNumber(sid) => {
            sid.issuer == body.issuer && sid.serial_number == body.serial_number
        }
        SignerIdentifier::SubjectKeyIdentifier(sid) => body.extensions.iter().flatten().any(|extension| {
            extension.extn_id == SUBJECT_KEY_IDENTIFIER
                && read::<SubjectKeyIdentifier>(extension.extn_value.as_bytes()).as_ref() == Some(sid)
        }),
    }
}

/// RFC 3161, 2.3: one extended key usage, critical, and it is timeStamping.
fn may_stamp(certificate: &Certificate) -> Result<(), Error> {
    let found = certificate
        .tbs_certificate
        .extensions
        .iter()
        .flatten()
        .find(|extension| extension.extn_id == EXTENDED_KEY_USAGE);
    let usage = found
        .filter(|extension| extension.critical)
        .and_then(|extension| read::<ExtendedKeyUsage>(extension.extn_value.as_bytes()));
    match usage {
        Some(usage) if usage.0 == [TIME_STAMPING] => Ok(()),
        _ => Err(Error::NotTrusted("the signer's certificate is not for time stamps alone")),
    }
}

/// The only value of the only attribute of this type; None if there is no such attribute.
fn one<'a>(
    attributes: impl Iterator<Item = &'a Attribute>,
    oid: ObjectIdentifier,
) -> Result<Option<&'a Any>, Error> {
    let found: Vec<&Attribute> = attributes.filter(|attribute| attribute.oid == oid).collect();
    match found.as_slice() {
        [] => Ok(None),
        [attribute] if attribute.values.len() == 1 => Ok(attribute.values.get(0)),
        _ => Err(Error::DoesNotHold("a signed attribute is there twice")),
    }
}

/// RFC 3161, 2.4.2: a signed attribute names the signer's certificate by its hash, so that no other one of the same key takes its place.
fn is_bound<'a>(attributes: impl Iterator<Item = &'a Attribute> + Clone, der: &[u8]) -> Result<(), Error> {
    let mut named = false;
    for (oid, default) in [(SIGNING_CERTIFICATE, SHA1), (SIGNING_CERTIFICATE_V2, SHA256)] {
        let Some(value) = one(attributes.clone(), oid)? else { continue };
        let list: SigningCertificate =
            value.decode_as().map_err(|_| Error::Malformed("the signing certificate"))?;
        let first = list.certs.first().ok_or(Error::Malformed("the signing certificate"))?;
        let algorithm = first.hash_algorithm.as_ref().map_or(default.to_owned(), |it| it.oid.to_string());
        let algorithm = match algorithm.as_str() {
            // RFC 2634's attribute has no other algorithm.
            SHA1 if oid == SIGNING_CERTIFICATE => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            other => digest_of(other).ok_or(Error::DoesNotHold("the digest algorithm"))?,
        };
        if first.cert_hash.as_bytes() != digest(algorithm, der).as_ref() {
            return Err(Error::DoesNotHold("another certificate than the signer's was signed"));
        }
        named = true;
    }
    if named { Ok(()) } else { Err(Error::DoesNotHold("the signer's certificate is not signed")) }
}

fn digest_of(oid: &str) -> Option<&'static digest::Algorithm> {
    match oid {
        SHA256 => Some(&digest::SHA256),
        SHA384 => Some(&digest::SHA384),
        SHA512 => Some(&digest::SHA512),
        _ => None,
    }
}

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// What certificates may be signed with. No SHA-1, no RSA below 2048 bits.
static PATH_ALGORITHMS: Algorithms = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    ecdsa::P256_SHA512,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    ecdsa::P384_SHA512,
    webpki::ring::ED25519,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
    webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    webpki::ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// What a token may be signed with. The key decides which one.
fn algorithms(signer: &SignerInfo) -> Option<Algorithms> {
    const RSA_256: Algorithms = &[webpki::ring::RSA_PKCS1_2048_8192_SHA256];
    const RSA_384: Algorithms = &[webpki::ring::RSA_PKCS1_2048_8192_SHA384];
    const RSA_512: Algorithms = &[webpki::ring::RSA_PKCS1_2048_8192_SHA512];
    static ECDSA_512: Algorithms = &[ecdsa::P256_SHA512, ecdsa::P384_SHA512];
    const ECDSA_256: Algorithms = &[webpki::ring::ECDSA_P256_SHA256, webpki::ring::ECDSA_P384_SHA256];
    const ECDSA_384: Algorithms = &[webpki::ring::ECDSA_P256_SHA384, webpki::ring::ECDSA_P384_SHA384];
    let digest = signer.digest_alg.oid.to_string();
    match (signer.signature_algorithm.oid.to_string().as_str(), digest.as_str()) {
        // rsaEncryption (RFC 3370, 3.2) leaves the digest to the other field.
        ("1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.11", SHA256) => Some(RSA_256),
        ("1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.12", SHA384) => Some(RSA_384),
        ("1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.13", SHA512) => Some(RSA_512),
        ("1.2.840.10045.4.3.2", _) => Some(ECDSA_256),
        ("1.2.840.10045.4.3.3", _) => Some(ECDSA_384),
        ("1.2.840.10045.4.3.4", _) => Some(ECDSA_512),
        _ => None,
    }
}
