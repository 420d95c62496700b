//! Compression of two messages at once by the SHA instructions of x86.
//!
//! `sha256rnds2` has a latency of four cycles, and each needs the result of the one before: one message leaves the unit idle
//! half of the time or more. The rounds of two messages are written alternately here, so each fills the gaps of the other.

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    _mm_storeu_si128,
};

cpufeatures::new!(sha, "sha", "sse2", "ssse3", "sse4.1");

/// A state, and blocks that are not in it yet.
type Message<'a> = (&'a mut [u32; 8], &'a [[u8; 64]]);

/// Compresses as many blocks of each as both have, and says how many; none where the processor has no such instructions.
#[inline]
pub fn compress_common(a: Message<'_>, b: Message<'_>) -> usize {
    let common = a.1.len().min(b.1.len());
    if common == 0 || !sha::get() {
        return 0;
    }
    // SAFETY: the processor has the instructions, as was just asked.
    unsafe { compress_two((a.0, &a.1[..common]), (b.0, &b.1[..common])) };
    common
}

/// The constants of FIPS 180-4, section 4.2.2.
#[repr(align(16))]
struct Constants([[u32; 4]; 16]);

static K: Constants = Constants([
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
]);

/// The working variables of one message, in the order the instructions want.
#[derive(Clone, Copy)]
struct Working {
    abef: __m128i,
    cdgh: __m128i,
}

impl Working {
    #[inline]
    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn load(state: &[u32; 8]) -> Self {
        // SAFETY: two halves of eight words; the load needs no alignment.
        let (dcba, hgfe) = unsafe {
            let words = state.as_ptr().cast::<__m128i>();
            (_mm_loadu_si128(words), _mm_loadu_si128(words.add(1)))
        };
        let cdab = _mm_shuffle_epi32(dcba, 0xB1);
        let efgh = _mm_shuffle_epi32(hgfe, 0x1B);
        Self { abef: _mm_alignr_epi8(cdab, efgh, 8), cdgh: _mm_blend_epi16(efgh, cdab, 0xF0) }
    }

    #[inline]
    #[target_feature(enable = "sse2,ssse3,sse4.1")]
    fn store(self, state: &mut [u32; 8]) {
        let feba = _mm_shuffle_epi32(self.abef, 0x1B);
        let dchg = _mm_shuffle_epi32(self.cdgh, 0xB1);
        // SAFETY: two halves of eight words; the store needs no alignment.
        unsafe {
            let words = state.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xF0));
            _mm_storeu_si128(words.add(1), _mm_alignr_epi8(dchg, feba, 8));
        }
    }

    /// Four rounds, `words` being the part of the message schedule for them.
    #[inline]
    #[target_feature(enable = "sha,sse2")]
    fn rounds(&mut self, words: __m128i, constants: __m128i) {
        let sum = _mm_add_epi32(words, constants);
        self.cdgh = _mm_sha256rnds2_epu32(self.cdgh, self.abef, sum);
        self.abef = _mm_sha256rnds2_epu32(self.abef, self.cdgh, _mm_shuffle_epi32(sum, 0x0E));
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn add(&mut self, before: Self) {
        self.abef = _mm_add_epi32(self.abef, before.abef);
        self.cdgh = _mm_add_epi32(self.cdgh, before.cdgh);
    }
}

#[inline]
#[target_feature(enable = "sse2")]
fn constants(n: usize) -> __m128i {
    // SAFETY: four words; the load needs no alignment.
    unsafe { _mm_loadu_si128(K.0[n].as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2,ssse3")]
fn words(block: &[u8; 64]) -> [__m128i; 4] {
    let big_endian = _mm_set_epi64x(0x0C0D_0E0F_0809_0A0B, 0x0405_0607_0001_0203);
    core::array::from_fn(|n| {
        // SAFETY: a quarter of the 64 bytes; the load needs no alignment.
        let quarter = unsafe { _mm_loadu_si128(block.as_ptr().cast::<__m128i>().add(n)) };
        _mm_shuffle_epi8(quarter, big_endian)
    })
}

/// The next four words of the message schedule, in place of the oldest. Places are constants: the words must stay in registers.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3")]
fn schedule<const N: usize>(w: &mut [__m128i; 4]) -> __m128i {
    let (oldest, newest) = (w[N], w[(N + 3) % 4]);
    let between = _mm_alignr_epi8(newest, w[(N + 2) % 4], 4);
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, w[(N + 1) % 4]), between);
    w[N] = _mm_sha256msg2_epu32(sum, newest);
    w[N]
}

/// Rounds `4 * (first + N)` and the three after it, of both messages.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3")]
fn scheduled_rounds<const N: usize>(
    a: (&mut Working, &mut [__m128i; 4]),
    b: (&mut Working, &mut [__m128i; 4]),
    first: usize,
) {
    let k = constants(first + N);
    a.0.rounds(schedule::<N>(a.1), k);
    b.0.rounds(schedule::<N>(b.1), k);
}

/// Compresses two runs of equally many blocks.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn compress_two(a: Message<'_>, b: Message<'_>) {
    let (mut x, mut y) = (Working::load(a.0), Working::load(b.0));
    for (a, b) in a.1.iter().zip(b.1) {
        let before = (x, y);
        let (mut v, mut w) = (words(a), words(b));
        for n in 0..4 {
            let k = constants(n);
            x.rounds(v[n], k);
            y.rounds(w[n], k);
        }
        for first in [4, 8, 12] {
            scheduled_rounds::<0>((&mut x, &mut v), (&mut y, &mut w), first);
            scheduled_rounds::<1>((&mut x, &mut v), (&mut y, &mut w), first);
            scheduled_rounds::<2>((&mut x, &mut v), (&mut y, &mut w), first);
            scheduled_rounds::<3>((&mut x, &mut v), (&mut y, &mut w), first);
        }
        x.add(before.0);
        y.add(before.1);
    }
    x.store(a.0);
    y.store(b.0);
}
