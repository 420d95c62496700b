//! The canonical encoding (format section 3): `lp`, `opt` and integers, written into a sink the caller gives.
//!
//! The encoding is injective: every value is preceded by its presence and its length, so no two different field
//! lists encode alike.

/// Takes encoded bytes in order.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Appends `head` and `bytes`.
    #[inline]
    fn put_headed<const N: usize>(&mut self, head: [u8; N], bytes: &[u8]) {
        self.put(&head);
        self.put(bytes);
    }
}

/// The length of a value as the format writes it.
///
/// # Panics
/// Never for a stored value: PostgreSQL caps one at 1 GiB.
#[inline]
fn length(bytes: &[u8]) -> [u8; 4] {
    assert!(bytes.len() <= u32::MAX as usize, "value longer than the format's 32-bit length");
    (bytes.len() as u32).to_be_bytes()
}

/// `lp(b)`: the length as 32 bits, big-endian, then the bytes.
#[inline(always)]
pub fn length_prefixed(sink: &mut impl Sink, bytes: &[u8]) {
    sink.put_headed(length(bytes), bytes);
}

/// `opt(v)` of a byte string.
#[inline(always)]
pub fn opt_bytes(sink: &mut impl Sink, value: Option<&[u8]>) {
    match value {
        None => sink.put(&[0]),
        Some(bytes) => {
            let [a, b, c, d] = length(bytes);
            sink.put_headed([1, a, b, c, d], bytes);
        }
    }
}

/// `opt(v)` of an integer or a time: eight bytes, signed, big-endian.
#[inline(always)]
pub fn opt_int(sink: &mut impl Sink, value: Option<i64>) {
    match value {
        None => sink.put(&[0]),
        Some(number) => {
            let mut encoded = [1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
            encoded[5..].copy_from_slice(&number.to_be_bytes());
            sink.put(&encoded);
        }
    }
}

/// `opt(v)` of a UUID: its 16 bytes.
#[inline(always)]
pub fn opt_uuid(sink: &mut impl Sink, value: &[u8; 16]) {
    let mut encoded = [0; 21];
    encoded[..5].copy_from_slice(&[1, 0, 0, 0, 16]);
    encoded[5..].copy_from_slice(value);
    sink.put(&encoded);
}
