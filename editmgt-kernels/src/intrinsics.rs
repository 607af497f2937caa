//! The instructions of x86-64 for products of bf16: the only unsafe code of the project.
//!
//! # Safety
//! Three things are unsafe here, and each has one argument:
//!
//! - *Instructions that a processor may not have, or the system may not allow.* They are only executed by
//!   methods of a token ([`Bf16Dot`], [`Bf16Tiles`]), and a token is only made by `detect`, after the
//!   processor has said that it has every feature that the method uses, and for [`Bf16Tiles`] the system
//!   that the process may use it. Tokens have a private field, so no other code can make one.
//! - *Loads and stores of registers.* A register is read from or written to an array of the same
//!   number of bytes, through a reference to the whole array: the reference is valid for all of these
//!   bytes, and `read_unaligned` and `write_unaligned` need no alignment. All types are plain numbers,
//!   for which every pattern of bits is a value.
//! - *Assembly that reads and writes memory* (tiles have no intrinsics in stable Rust). It gets pointers
//!   of slices and arrays whose lengths are asserted just before to be those that the assembly reads
//!   and writes. It configures the tile registers of its thread, uses them and releases them within
//!   one function that calls nothing else; the compiler uses these registers for nothing.
//!
//! Nothing else is unsafe: lengths are those of slices and arrays, loops are iterators.

#![allow(unsafe_code)]

/// Columns of a tile.
pub(crate) const COLUMNS: usize = 32;
/// Steps are a multiple of this number.
pub(crate) const STEPS: usize = 16;

/// One step of a panel: two bf16 along the summed dimension for each column, the first in the lower
/// half.
pub(crate) type RightStep = [u32; COLUMNS];
/// The sums of one row of a tile.
pub(crate) type Sums = [f32; COLUMNS];

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Bf16Dot, Bf16Tiles};

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::{Bf16Dot, Bf16Tiles};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::sync::OnceLock;

    use super::{COLUMNS, RightStep, STEPS, Sums};

    /// Numbers of 32 bits in a register.
    const LANES: usize = 16;
    /// Registers of a row of a tile.
    const REGISTERS: usize = COLUMNS / LANES;

    /// The processor has `vdpbf16ps` (AVX-512 BF16): products of two bf16 each, added to f32.
    ///
    /// The instruction rounds each addition to the nearest f32, and takes denormal inputs and results
    /// for zero.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Bf16Dot(());

    impl Bf16Dot {
        /// Rows of a tile: with 24 registers of sums, additions that take six cycles each are started
        /// every cycle, and each step needs 14 loads for 24 of them.
        pub(crate) const ROWS: usize = 12;

        /// `None` if the processor doesn't have it.
        pub(crate) fn detect() -> Option<Self> {
            let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
            has.then_some(Self(()))
        }

        /// The product of a strip and a panel of the same number of steps. A step of a strip is two
        /// bf16 for each row.
        #[inline]
        pub(crate) fn product(
            self,
            strip: &[[u32; Self::ROWS]],
            panel: &[RightStep],
        ) -> [Sums; Self::ROWS] {
            // SAFETY: the token says that the processor has the features of the function.
            unsafe { bf16_dot_product(strip, panel) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16_dot_product(
        strip: &[[u32; Bf16Dot::ROWS]],
        panel: &[RightStep],
    ) -> [Sums; Bf16Dot::ROWS] {
        debug_assert_eq!(strip.len(), panel.len());
        // Loops over arrays, not closures: a closure isn't always inlined into a function with more
        // features than its caller's.
        let mut registers = [[_mm512_setzero_ps(); REGISTERS]; Bf16Dot::ROWS];
        for (left, right) in strip.iter().zip(panel) {
            let mut columns = [bf16_pairs(_mm512_setzero_si512()); REGISTERS];
            for (register, lanes) in columns.iter_mut().zip(right.as_chunks().0) {
                *register = bf16_pairs(read_u32(lanes));
            }
            for (registers, &left) in registers.iter_mut().zip(left) {
                let left = bf16_pairs(_mm512_set1_epi32(left.cast_signed()));
                for (sum, &right) in registers.iter_mut().zip(&columns) {
                    *sum = _mm512_dpbf16_ps(*sum, left, right);
                }
            }
        }
        let mut sums = [[0.0; COLUMNS]; Bf16Dot::ROWS];
        for (row, registers) in sums.iter_mut().zip(registers) {
            for (lanes, register) in row.as_chunks_mut().0.iter_mut().zip(registers) {
                write_f32(register, lanes);
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn read_u32(from: &[u32; LANES]) -> __m512i {
        // SAFETY: the array has the size of the register.
        unsafe { std::ptr::from_ref(from).cast::<__m512i>().read_unaligned() }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn write_f32(register: __m512, to: &mut [f32; LANES]) {
        // SAFETY: the array has the size of the register.
        unsafe { std::ptr::from_mut(to).cast::<__m512>().write_unaligned(register) }
    }

    /// The same bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn bf16_pairs(register: __m512i) -> __m512bh {
        // SAFETY: both have 512 bits, and every pattern of bits is a value of both.
        unsafe { std::mem::transmute(register) }
    }

    /// The processor has `tdpbf16ps` (AMX BF16): products of whole tiles of bf16, added to f32.
    ///
    /// The instruction rounds each addition to the nearest f32, and takes denormal inputs and results
    /// for zero.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Bf16Tiles(());

    /// What `ldtilecfg` reads: palette 1, and the size of each of 8 tiles.
    #[repr(C, align(64))]
    struct TileConfig {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    /// All tiles as large as they can be: 16 rows of 64 bytes.
    const TILE_CONFIG: TileConfig = TileConfig {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// [`STEPS`] steps of a strip: for each row the pairs of all steps.
    pub(crate) type LeftTiles = [[u32; STEPS]; Bf16Tiles::ROWS];

    impl Bf16Tiles {
        /// Rows of a product: two tiles. With two tiles of columns, every tile that is loaded is
        /// multiplied twice.
        pub(crate) const ROWS: usize = 32;

        /// `None` if the processor doesn't have it, or the system doesn't let the process use it.
        pub(crate) fn detect() -> Option<Self> {
            static USABLE: OnceLock<bool> = OnceLock::new();
            USABLE.get_or_init(|| has_bf16_tiles() && tiles_are_permitted()).then_some(Self(()))
        }

        /// Writes the product of each strip with a panel of the same number of steps to `sums`, or adds
        /// it to them. Meanwhile the cache reads the panel `next`.
        ///
        /// # Panics
        /// If numbers of steps, or of strips and sums, differ.
        pub(crate) fn products(
            self,
            strips: &[&[LeftTiles]],
            panel: &[RightStep],
            next: &[RightStep],
            add: bool,
            sums: &mut [[Sums; Self::ROWS]],
        ) {
            let (blocks, rest) = panel.as_chunks::<STEPS>();
            assert!(rest.is_empty() && !blocks.is_empty(), "a panel has whole blocks of steps");
            assert_eq!(strips.len(), sums.len(), "there must be sums for each strip");
            assert!(strips.iter().all(|strip| strip.len() == blocks.len()), "steps must be equal");
            // SAFETY: the token says that the processor has AMX, and that the system permits it. The
            // instruction reads the 64 bytes of the configuration.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &TILE_CONFIG, options(nostack, readonly, preserves_flags));
            }
            // Addresses without memory would cost more than they save.
            let mut next = if next.len() == panel.len() { next } else { panel }.as_ptr();
            for (strip, sums) in strips.iter().zip(sums) {
                // SAFETY: the tiles are configured above. The loop runs `blocks.len()` times, at least
                // once, and each time reads one element of `strip`, of 2,048 bytes in rows of 64 (tiles
                // at 0 and 1,024), and one of `blocks`, of 2,048 bytes in rows of 128 (tiles at 0 and
                // 64); both slices have that many elements. Before, if `add`, it reads `sums`, of 4,096
                // bytes in rows of 128 (tiles at 0, 64, 2,048 and 2,112), and it writes them in the end.
                // `next` is only a hint to the cache, which may be any address.
                unsafe {
                    asm!(
                        "test {add}, {add}",
                        "jnz 3f",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "jmp 2f",
                        "3:",
                        "tileloadd tmm0, [{sums} + {right_row}]",
                        "tileloadd tmm1, [{sums} + {right_row} + 64]",
                        "tileloadd tmm2, [{sums} + {right_row} + 2048]",
                        "tileloadd tmm3, [{sums} + {right_row} + 2112]",
                        "2:",
                        "tileloadd tmm4, [{left} + {left_row}]",
                        "tileloadd tmm6, [{right} + {right_row}]",
                        "tileloadd tmm7, [{right} + {right_row} + 64]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "prefetcht1 [{next}]",
                        "prefetcht1 [{next} + 64]",
                        "tileloadd tmm5, [{left} + {left_row} + 1024]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "prefetcht1 [{next} + 128]",
                        "prefetcht1 [{next} + 192]",
                        "add {left}, 2048",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "add {right}, 2048",
                        "add {next}, 256",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        "dec {count}",
                        "jnz 2b",
                        "tilestored [{sums} + {right_row}], tmm0",
                        "tilestored [{sums} + {right_row} + 64], tmm1",
                        "tilestored [{sums} + {right_row} + 2048], tmm2",
                        "tilestored [{sums} + {right_row} + 2112], tmm3",
                        left = inout(reg) strip.as_ptr() => _,
                        right = inout(reg) blocks.as_ptr() => _,
                        next = inout(reg) next,
                        count = inout(reg) blocks.len() => _,
                        add = in(reg) usize::from(add),
                        sums = in(reg) std::ptr::from_mut(sums),
                        left_row = in(reg) 64usize,
                        right_row = in(reg) 128usize,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
            // SAFETY: as for `ldtilecfg`; it accesses no memory.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }

    /// Whether the processor says that it has tiles and products of bf16 (Intel's manual, volume 2,
    /// CPUID: leaf 7, EDX bits 22 and 24).
    fn has_bf16_tiles() -> bool {
        const BITS: u32 = 1 << 22 | 1 << 24;
        // The highest leaf is in EAX of leaf 0.
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BITS == BITS
    }

    /// Asks Linux for permission to use the tile registers, which it gives to the whole process.
    #[cfg(target_os = "linux")]
    fn tiles_are_permitted() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XFEATURE_XTILEDATA: u64 = 18;
        let result: i64;
        // SAFETY: a system call with two numbers and no pointers, which changes no memory of the
        // process. The kernel overwrites `rcx` and `r11`.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn tiles_are_permitted() -> bool {
        false
    }
}

/// Processors without these instructions.
#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use std::convert::Infallible;

    use super::{RightStep, STEPS, Sums};

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Bf16Dot(Infallible);

    impl Bf16Dot {
        pub(crate) const ROWS: usize = 12;

        pub(crate) fn detect() -> Option<Self> {
            None
        }

        pub(crate) fn product(
            self,
            _: &[[u32; Self::ROWS]],
            _: &[RightStep],
        ) -> [Sums; Self::ROWS] {
            match self.0 {}
        }
    }

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Bf16Tiles(Infallible);

    impl Bf16Tiles {
        pub(crate) const ROWS: usize = 32;

        pub(crate) fn detect() -> Option<Self> {
            None
        }

        pub(crate) fn products(
            self,
            _: &[&[[[u32; STEPS]; Self::ROWS]]],
            _: &[RightStep],
            _: &[RightStep],
            _: bool,
            _: &mut [[Sums; Self::ROWS]],
        ) {
            match self.0 {}
        }
    }
}
