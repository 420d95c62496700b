//! A message: its bytes in a buffer until they are compressed, which for most messages is once, at the end.

use core::mem::MaybeUninit;
use core::ptr;

use sha2::block_api::compress256;

const BLOCK: usize = 64;

/// Bytes gathered before any are compressed: most messages fit.
const ROOM: usize = 16 * BLOCK;

/// The most that the end of a message takes: a byte 0x80, zeros, and the length.
const LONGEST_END: usize = BLOCK + 8;

const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Room for the bytes of one message. Apart from the message, so that it is never moved: moving copies all of it, written or not.
pub struct Buffer([MaybeUninit<u8>; ROOM]);

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    /// Not initialised.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self([MaybeUninit::uninit(); ROOM])
    }
}

/// A message that is being written.
///
/// `begin <= end <= ROOM`; the buffer is initialised up to `end`, and `begin` is a multiple of [`BLOCK`].
pub struct Message<'a> {
    state: [u32; 8],
    /// Bytes that were compressed and have left the buffer.
    gone: u64,
    /// Bytes of the buffer that are compressed already.
    begin: usize,
    /// Bytes of the buffer that are written.
    end: usize,
    buffer: &'a mut [MaybeUninit<u8>; ROOM],
}

/// Appends pieces to a message. Where it ends is kept beside the message meanwhile, in a register: in memory, each piece would wait for
/// the one before.
#[must_use = "pieces are part of the message once `finish` is called"]
pub struct Writer<'a, 'buffer> {
    message: &'a mut Message<'buffer>,
    /// As that of the message, but up to date.
    end: usize,
}

impl Writer<'_, '_> {
    /// Appends `bytes`.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        self.put_headed([], bytes);
    }

    /// Appends `head` and `bytes`: one test of the room for both.
    #[inline(always)]
    pub fn put_headed<const N: usize>(&mut self, head: [u8; N], bytes: &[u8]) {
        const { assert!(N <= BLOCK) };
        let room = ROOM - self.end;
        if room < N || room - N < bytes.len() {
            self.end = self.message.put_long(self.end, &head, bytes);
            return;
        }
        // SAFETY: both fit behind `end`, as was just tested; bytes that are borrowed are not those of the buffer.
        unsafe {
            let to = self.message.buffer.as_mut_ptr().add(self.end).cast::<u8>();
            to.cast::<[u8; N]>().write_unaligned(head);
            copy(bytes.as_ptr(), to.add(N), bytes.len());
        }
        self.end += N + bytes.len();
    }

    /// Makes the pieces part of the message. Without it, those in the buffer are not.
    #[inline]
    pub const fn finish(self) {
        self.message.end = self.end;
    }
}

impl<'buffer> Message<'buffer> {
    /// An empty message, which keeps its bytes in `buffer`.
    #[inline]
    pub const fn new(buffer: &'buffer mut Buffer) -> Self {
        Self { state: START, gone: 0, begin: 0, end: 0, buffer: &mut buffer.0 }
    }

    /// Appends `bytes`.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        let mut writer = self.writer();
        writer.put(bytes);
        writer.finish();
    }

    /// For appending many pieces.
    #[inline]
    pub const fn writer(&mut self) -> Writer<'_, 'buffer> {
        Writer { end: self.end, message: self }
    }

    /// Its hash. The message is used up: what is put to it later belongs to no message.
    #[must_use]
    pub fn finish(&mut self) -> [u8; 32] {
        self.pad();
        self.compress();
        self.digest()
    }

    /// Its hash, as [`Self::finish`]; blocks that `other` already has are compressed beside it.
    #[must_use]
    pub fn finish_beside(&mut self, other: &mut Message<'_>) -> [u8; 32] {
        self.pad();
        #[cfg(target_arch = "x86_64")]
        {
            let compressed = BLOCK * crate::x86::compress_common(self.parts(), other.parts());
            self.begin += compressed;
            other.begin += compressed;
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = other;
        self.compress();
        self.digest()
    }

    /// Appends `head` and `bytes` where the message ends at `end`; returns its new end.
    #[cold]
    #[inline(never)]
    fn put_long(&mut self, end: usize, head: &[u8], bytes: &[u8]) -> usize {
        self.end = end;
        for bytes in [head, bytes] {
            let mut rest = bytes;
            self.make_room();
            if rest.len() > ROOM - self.end {
                // Completes the block that is begun. The others need not pass through the buffer.
                let (missing, behind) = rest.split_at((BLOCK - self.end) % BLOCK);
                self.append(missing);
                self.make_room();
                let (blocks, behind) = behind.as_chunks::<BLOCK>();
                compress256(&mut self.state, blocks);
                self.gone += (blocks.len() * BLOCK) as u64;
                rest = behind;
            }
            self.append(rest);
        }
        self.end
    }

    /// # Panics
    /// When there is no room.
    fn append(&mut self, bytes: &[u8]) {
        let room = &mut self.buffer[self.end..][..bytes.len()];
        room.write_copy_of_slice(bytes);
        self.end += bytes.len();
    }

    /// Compresses the whole blocks and moves the block that is begun to the front.
    fn make_room(&mut self) {
        self.compress();
        self.buffer.copy_within(self.begin..self.end, 0);
        self.gone += self.begin as u64;
        self.end -= self.begin;
        self.begin = 0;
    }

    /// Ends the message as FIPS 180-4, section 5.1.1, says: it is whole blocks now.
    #[inline]
    fn pad(&mut self) {
        const MARK: [u8; BLOCK] = {
            let mut mark = [0; BLOCK];
            mark[0] = 0x80;
            mark
        };
        if ROOM - self.end < LONGEST_END {
            self.make_room();
        }
        let bits = (self.gone + self.end as u64) * 8;
        let whole = (self.end + 1 + 8).next_multiple_of(BLOCK);
        // SAFETY: at most LONGEST_END bytes behind `end`, for which there is room. Before the length are at most 64 bytes, so the mark
        // initialises all of them; what of it reaches further is written again, or is behind the end.
        unsafe {
            let buffer = self.buffer.as_mut_ptr().cast::<u8>();
            buffer.add(self.end).cast::<[u8; BLOCK]>().write_unaligned(MARK);
            buffer.add(whole - 8).cast::<[u8; 8]>().write_unaligned(bits.to_be_bytes());
        }
        self.end = whole;
    }

    /// The state, and the whole blocks that are not in it yet.
    #[inline]
    fn parts(&mut self) -> (&mut [u32; 8], &[[u8; BLOCK]]) {
        let blocks = (self.end - self.begin) / BLOCK;
        // SAFETY: `begin` and `end` are within the buffer, and what is before `end` is initialised.
        let blocks = unsafe {
            let first = self.buffer.as_ptr().add(self.begin).cast::<[u8; BLOCK]>();
            core::slice::from_raw_parts(first, blocks)
        };
        (&mut self.state, blocks)
    }

    #[inline]
    fn compress(&mut self) {
        let (state, blocks) = self.parts();
        let bytes = blocks.len() * BLOCK;
        if bytes > 0 {
            compress256(state, blocks);
            self.begin += bytes;
        }
    }

    #[inline]
    fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

/// Copies `count` bytes: few of them without a call, by two copies that may overlap.
///
/// # Safety
/// `from` must be readable and `to` writable for `count` bytes, and they must not overlap.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, count: usize) {
    /// # Safety
    /// As for [`copy`]; `count` must be between the size of `T` and twice that.
    #[inline(always)]
    unsafe fn ends<T>(from: *const u8, to: *mut u8, count: usize) {
        let last = count - size_of::<T>();
        // SAFETY: the first and the last bytes of those that may be read and written, by contract; both are read
        // before any is written.
        unsafe {
            let (head, tail) =
                (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
            to.cast::<T>().write_unaligned(head);
            to.add(last).cast::<T>().write_unaligned(tail);
        }
    }
    // SAFETY: by contract; each size is within the bounds of its copy.
    unsafe {
        match count {
            0 => {}
            1 => *to = *from,
            2..4 => ends::<[u8; 2]>(from, to, count),
            4..8 => ends::<[u8; 4]>(from, to, count),
            8..16 => ends::<[u8; 8]>(from, to, count),
            16..=32 => ends::<[u8; 16]>(from, to, count),
            33..=64 => ends::<[u8; 32]>(from, to, count),
            65..=128 => ends::<[u8; 64]>(from, to, count),
            _ => ptr::copy_nonoverlapping(from, to, count),
        }
    }
}
