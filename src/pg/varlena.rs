//! Values of variable length: `text`, `bytea` and other types that PostgreSQL stores with a header.

use pgrx::pg_sys;

/// The stored bytes of a variable-length value, fetched and decompressed if need be.
///
/// # Safety
/// `datum` must be a valid varlena; the bytes live as long as it, or as the current memory context.
#[inline(always)]
pub unsafe fn bytes<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    let pointer = datum.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: valid by contract. Nearly every value is short: one byte of header, whose low bit says so on a
    // little-endian machine, and whose other bits are the length; 1 alone stands for a value stored elsewhere.
    unsafe {
        let header = *pointer.cast::<u8>();
        if cfg!(target_endian = "little") && header & 1 == 1 && header != 1 {
            return std::slice::from_raw_parts(pointer.cast::<u8>().add(1), usize::from(header >> 1) - 1);
        }
        long_bytes(pointer)
    }
}

/// # Safety
/// As for [`bytes`].
#[inline(never)]
unsafe fn long_bytes<'a>(mut pointer: *mut pg_sys::varlena) -> &'a [u8] {
    // SAFETY: valid by contract.
    unsafe {
        if pgrx::varlena::varatt_is_4b_c(pointer) || pgrx::varlena::varatt_is_1b_e(pointer) {
            pointer = pg_sys::pg_detoast_datum_packed(pointer);
        }
        let length = pgrx::varlena::varsize_any_exhdr(pointer);
        std::slice::from_raw_parts(pgrx::varlena::vardata_any(pointer).cast::<u8>(), length)
    }
}

/// A `bytea` or `text` of a known short length, laid out as PostgreSQL stores it, on the stack.
///
/// `N` is the payload's room plus one; payloads are at most 126 bytes.
#[repr(C)]
pub struct ShortVarlena<const N: usize> {
    bytes: [u8; N],
}

impl<const N: usize> ShortVarlena<N> {
    /// Holds `payload`, cut to the room there is.
    #[inline]
    pub const fn new(payload: &[u8]) -> Self {
        const { assert!(N >= 1 && N <= 127) };
        let length = if payload.len() < N { payload.len() } else { N - 1 };
        let mut bytes = [0; N];
        // The one-byte header of a short varlena: its whole length, shifted, with the low bit set
        // (little-endian) or the high bit set (big-endian).
        bytes[0] = if cfg!(target_endian = "little") {
            ((length as u8 + 1) << 1) | 1
        } else {
            (length as u8 + 1) | 0x80
        };
        bytes.split_at_mut(1).1.split_at_mut(length).0.copy_from_slice(payload.split_at(length).0);
        Self { bytes }
    }

    /// The value, which lives as long as `self`.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.bytes.as_ptr())
    }
}

/// A `bytea` in the current memory context.
pub fn bytea(payload: &[u8]) -> pg_sys::Datum {
    pg_sys::Datum::from(pgrx::varlena::rust_byte_slice_to_bytea(payload).into_pg())
}
