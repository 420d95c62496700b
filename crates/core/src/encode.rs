//! The canonical encoding (format section 3): `lp`, `opt` and integers, written into a sink the caller gives.
//!
//! The encoding is injective: every value is preceded by its presence and its length, so no two different field
//! lists encode alike.

use heapless::Vec;

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

/// Bytes gathered before the underlying sink sees them: most events fit, so they cost it one call.
const STAGE: usize = 1024;

/// Gathers the many short pieces of an event in a fixed buffer and hands them on in long ones.
pub struct Staged<S: Sink> {
    inner: S,
    stage: Vec<u8, STAGE>,
}

impl<S: Sink> Staged<S> {
    /// An empty stage in front of `inner`.
    #[inline]
    pub fn new(inner: S) -> Self {
        Self { inner, stage: Vec::new() }
    }

    /// Hands on the remaining bytes and returns the underlying sink.
    #[inline]
    pub fn finish(mut self) -> S {
        self.inner.put(&self.stage);
        self.inner
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self, bytes: &[u8]) {
        self.inner.put(&self.stage);
        self.stage.clear();
        if self.stage.extend_from_slice(bytes).is_err() {
            self.inner.put(bytes);
        }
    }
}

impl<S: Sink> Sink for Staged<S> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.stage.extend_from_slice(bytes).is_err() {
            self.spill(bytes);
        }
    }
}

impl<const N: usize> Sink for &mut Vec<u8, N> {
    /// # Panics
    /// When the buffer is too small; for fixed parts whose size is known.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        assert!(self.extend_from_slice(bytes).is_ok(), "fixed part does not fit its buffer");
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
