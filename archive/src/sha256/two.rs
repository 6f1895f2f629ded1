//! The compression function of SHA-256 on two messages at a time, by the SHA instructions of x86-64; without those,
//! one after the other.
//!
//! The only `unsafe` of the workspace: the call of code that is compiled for instructions which not every processor
//! has. Its contract is that the processor was asked. Measured: 2.7 GB/s instead of 1.55.
#![allow(unsafe_code)]

use super::{Block, State, one};

/// Takes in as many blocks of each message; `blocks` are equally long.
pub(super) fn compress(states: [&mut State; 2], blocks: [&[Block]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
    {
        // SAFETY: the processor has just said that it has the instructions that the function is compiled for.
        return unsafe { x86::compress(states, blocks) };
    }
    let [a, b] = states;
    one(a, blocks[0]);
    one(b, blocks[1]);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_set_epi64x, _mm_sha256msg1_epu32,
        _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::super::{Block, State};

    /// FIPS 180-4, 4.2.2, by fours.
    const K: [[u32; 4]; 16] = [
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
    ];

    /// A state as the instructions want it.
    #[derive(Copy, Clone)]
    struct Halves {
        abef: __m128i,
        cdgh: __m128i,
    }

    impl Halves {
        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn load(state: &State) -> Self {
            let [dcba, hgfe]: [__m128i; 2] = bytemuck::cast(*state);
            let cdab = _mm_shuffle_epi32(dcba, 0xb1);
            let efgh = _mm_shuffle_epi32(hgfe, 0x1b);
            Self {
                abef: _mm_alignr_epi8(cdab, efgh, 8),
                cdgh: _mm_blend_epi16(efgh, cdab, 0xf0),
            }
        }

        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn store(self) -> State {
            let feba = _mm_shuffle_epi32(self.abef, 0x1b);
            let dchg = _mm_shuffle_epi32(self.cdgh, 0xb1);
            bytemuck::cast([_mm_blend_epi16(feba, dchg, 0xf0), _mm_alignr_epi8(dchg, feba, 8)])
        }

        #[target_feature(enable = "sha,ssse3,sse4.1")]
        fn plus(self, other: Self) -> Self {
            Self {
                abef: _mm_add_epi32(self.abef, other.abef),
                cdgh: _mm_add_epi32(self.cdgh, other.cdgh),
            }
        }
    }

    /// The words of a block, of which four at a time make room for those that follow.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn words(block: &Block) -> [__m128i; 4] {
        let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let [a, b, c, d]: [__m128i; 4] = bytemuck::cast(*block);
        let swap = |v| _mm_shuffle_epi8(v, big_endian);
        [swap(a), swap(b), swap(c), swap(d)]
    }

    /// Puts four words in the place of those sixteen before, the fours in a circle.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn schedule(w: &mut [__m128i; 4], i: usize) {
        let last = w[(i + 3) % 4];
        let sum = _mm_add_epi32(
            _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]),
            _mm_alignr_epi8(last, w[(i + 2) % 4], 4),
        );
        w[i % 4] = _mm_sha256msg2_epu32(sum, last);
    }

    /// Four rounds with the words `w`.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn rounds(state: Halves, w: __m128i, k: [u32; 4]) -> Halves {
        let sum = _mm_add_epi32(w, bytemuck::cast(k));
        let cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, sum);
        let abef = _mm_sha256rnds2_epu32(state.abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
        Halves { abef, cdgh }
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn compress([first, second]: [&mut State; 2], blocks: [&[Block]; 2]) {
        let (mut a, mut b) = (Halves::load(first), Halves::load(second));
        for (x, y) in blocks[0].iter().zip(blocks[1]) {
            let (a_before, b_before) = (a, b);
            let (mut v, mut w) = (words(x), words(y));
            for i in 0..4 {
                (a, b) = (rounds(a, v[i], K[i]), rounds(b, w[i], K[i]));
            }
            for k in K[4..].as_chunks::<4>().0 {
                for i in 0..4 {
                    schedule(&mut v, i);
                    schedule(&mut w, i);
                    (a, b) = (rounds(a, v[i], k[i]), rounds(b, w[i], k[i]));
                }
            }
            (a, b) = (a.plus(a_before), b.plus(b_before));
        }
        (*first, *second) = (a.store(), b.store());
    }
}
