//! The instructions of x86-64 for products of bf16 and of int8: the only unsafe code of the
//! project.
//!
//! # Safety
//! Four things are unsafe here, and each has one argument:
//!
//! - *Instructions that a processor may not have, or the system may not allow.* They are only
//!   executed by methods of a token ([`Bf16Dot`], [`Bf16Tiles`], [`Int8Dot`], [`Int8Tiles`],
//!   [`Interleave`]), and a token is only made by `detect`, after the processor has said that it
//!   has every feature that the method uses, and for tiles the system that the process may use
//!   them. Tokens have a private field, so no other code can make one.
//! - *Loads and stores of registers.* A register is read from or written to an array of the same
//!   number of bytes, through a reference to the whole array: the reference is valid for all of
//!   these bytes, and `read_unaligned` and `write_unaligned` need no alignment. All types are plain
//!   numbers, for which every pattern of bits is a value.
//! - *Assembly that reads and writes memory* (tiles have no intrinsics in stable Rust). It gets
//!   pointers of slices and arrays whose lengths are asserted just before to be those that the
//!   assembly reads and writes. It configures the tile registers of its thread, uses them and
//!   releases them within one function that calls nothing else; the compiler uses these registers
//!   for nothing.
//! - *A hint to read a cache line ahead.* Every x86-64 processor has the instruction; it accesses
//!   nothing that the program could see, and an address that can't be read is ignored.
//!
//! Nothing else is unsafe: lengths are those of slices and arrays, loops are iterators.

#![allow(unsafe_code)]

/// Columns of a product.
pub(crate) const COLUMNS: usize = 32;
/// Steps are a multiple of this number.
pub(crate) const STEPS: usize = 16;
/// Rows of a product of [`Tiles`]: two tiles. With two tiles of columns, every tile that is loaded
/// is multiplied twice.
pub(crate) const TILE_ROWS: usize = 32;
/// Rows of a product of [`Dot`]: with 24 registers of sums, additions that take six cycles each are
/// started every cycle, and each step needs 14 loads for 24 of them.
pub(crate) const DOT_ROWS: usize = 12;

/// One step of a panel, 32 bits for each column: two bf16 along the summed dimension, or four int8,
/// the first in the lowest bits.
pub(crate) type RightStep = [u32; COLUMNS];
/// [`STEPS`] steps of a strip for [`Tiles`]: for each row its steps, as those of a panel.
pub(crate) type LeftTiles = [[u32; STEPS]; TILE_ROWS];
/// The same for [`Dot`].
pub(crate) type LeftRows = [[u32; STEPS]; DOT_ROWS];
/// The sums of one row.
pub(crate) type Sums<S> = [S; COLUMNS];

/// Instructions for products of whole tiles. A value is the proof that the processor has them and
/// the system permits them.
pub(crate) trait Tiles: Copy + Send + Sync {
    /// The type of a sum.
    type Sum: Copy;

    /// `None` if the processor doesn't have them, or the system doesn't let the process use them.
    fn detect() -> Option<Self>;

    /// Writes the product of each strip with a panel of the same number of steps to `sums`, or adds
    /// it to them. Meanwhile the cache reads the panel `next`.
    ///
    /// # Panics
    /// If numbers of steps, or of strips and sums, differ.
    fn products(
        self,
        strips: &[&[LeftTiles]],
        panel: &[RightStep],
        next: &[RightStep],
        add: bool,
        sums: &mut [[Sums<Self::Sum>; TILE_ROWS]],
    );
}

/// Instructions for products of registers. A value is the proof that the processor has them.
pub(crate) trait Dot: Copy + Send + Sync {
    /// The type of a sum.
    type Sum: Copy;

    /// `None` if the processor doesn't have them.
    fn detect() -> Option<Self>;

    /// The product of a strip and a panel of the same number of steps.
    fn product(
        self,
        strip: &[LeftRows],
        panel: &[[RightStep; STEPS]],
    ) -> [Sums<Self::Sum>; DOT_ROWS];
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Bf16Dot, Bf16Tiles, Int8Dot, Int8Tiles, Interleave, prefetch};

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::{Bf16Dot, Bf16Tiles, Int8Dot, Int8Tiles, Interleave, prefetch};

/// A step of two numbers of 16 bits for each column, one number after the other.
fn interleave_plain(low: &[u16; COLUMNS], high: &[u16; COLUMNS], step: &mut RightStep) {
    for ((to, &low), &high) in step.iter_mut().zip(low).zip(high) {
        *to = u32::from(low) | u32::from(high) << 16;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::sync::OnceLock;

    use pulp::bytemuck;

    use super::{
        COLUMNS, DOT_ROWS, Dot, LeftRows, LeftTiles, RightStep, STEPS, Sums, TILE_ROWS, Tiles,
    };

    /// Asks the cache to read the line at the start of `from`.
    #[inline(always)]
    pub(crate) fn prefetch<T>(from: &[T]) {
        // SAFETY: SSE is part of x86-64; the address is only a hint, which accesses nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().cast()) };
    }

    /// Makes steps of two numbers of 16 bits, which the compiler does one number after the other.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Interleave(Option<Avx512>);

    /// The processor has AVX-512.
    #[derive(Debug, Clone, Copy)]
    struct Avx512(());

    impl Interleave {
        /// The fastest of this processor.
        pub(crate) fn detect() -> Self {
            Self(is_x86_feature_detected!("avx512f").then_some(Avx512(())))
        }

        /// Without instructions that a processor may not have.
        #[cfg(test)]
        pub(crate) fn plain() -> Self {
            Self(None)
        }

        /// Writes the step of `low` and `high` for each column.
        #[inline(always)]
        pub(crate) fn write(
            self,
            low: &[u16; COLUMNS],
            high: &[u16; COLUMNS],
            step: &mut RightStep,
        ) {
            match self.0 {
                // SAFETY: the token says that the processor has the feature of the function.
                Some(Avx512(())) => unsafe { interleave(low, high, step) },
                None => super::interleave_plain(low, high, step),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn interleave(low: &[u16; COLUMNS], high: &[u16; COLUMNS], step: &mut RightStep) {
        let halves = low.as_chunks().0.iter().zip(high.as_chunks().0);
        for (to, (low, high)) in step.as_chunks_mut().0.iter_mut().zip(halves) {
            let (low, high) = (read_u16(low), read_u16(high));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
            write_u32(_mm512_or_si512(_mm512_cvtepu16_epi32(low), high), to);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn read_u16(from: &[u16; LANES]) -> __m256i {
        // SAFETY: the array has the size of the register.
        unsafe { std::ptr::from_ref(from).cast::<__m256i>().read_unaligned() }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn write_u32(register: __m512i, to: &mut [u32; LANES]) {
        // SAFETY: the array has the size of the register.
        unsafe { std::ptr::from_mut(to).cast::<__m512i>().write_unaligned(register) }
    }

    /// Numbers of 32 bits in a register.
    const LANES: usize = 16;
    /// Registers of a row of a tile.
    const REGISTERS: usize = COLUMNS / LANES;

    /// The processor has `vdpbf16ps` (AVX-512 BF16): products of two bf16 each, added to f32.
    ///
    /// The instruction rounds each addition to the nearest f32, and takes denormal inputs and
    /// results for zero.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Bf16Dot(());

    impl Dot for Bf16Dot {
        type Sum = f32;

        fn detect() -> Option<Self> {
            let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
            has.then_some(Self(()))
        }

        #[inline]
        fn product(
            self,
            strip: &[LeftRows],
            panel: &[[RightStep; STEPS]],
        ) -> [Sums<f32>; DOT_ROWS] {
            // SAFETY: the token says that the processor has the features of the function.
            unsafe { bf16_dot_product(strip, panel) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16_dot_product(strip: &[LeftRows], panel: &[[RightStep; STEPS]]) -> [Sums<f32>; DOT_ROWS] {
        debug_assert_eq!(strip.len(), panel.len());
        // Loops over arrays, not closures: a closure isn't always inlined into a function with more
        // features than its caller's.
        let mut registers = [[_mm512_setzero_ps(); REGISTERS]; DOT_ROWS];
        for (left, right) in strip.iter().zip(panel) {
            for (step, right) in right.iter().enumerate() {
                let mut columns = [bf16_pairs(_mm512_setzero_si512()); REGISTERS];
                for (register, lanes) in columns.iter_mut().zip(right.as_chunks().0) {
                    *register = bf16_pairs(read_u32(lanes));
                }
                for (registers, left) in registers.iter_mut().zip(left) {
                    let left = bf16_pairs(_mm512_set1_epi32(left[step].cast_signed()));
                    for (sum, &right) in registers.iter_mut().zip(&columns) {
                        *sum = _mm512_dpbf16_ps(*sum, left, right);
                    }
                }
            }
        }
        let mut sums = [[0.0; COLUMNS]; DOT_ROWS];
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

    /// The processor has `vpdpbusd`: products of four unsigned and four signed bytes each, added to
    /// an i32, which wraps. Steps of strips are unsigned.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Int8Dot(Width);

    #[derive(Debug, Clone, Copy)]
    enum Width {
        /// 512 bits, AVX-512 VNNI.
        Zmm,
        /// 256 bits, AVX-VNNI.
        Ymm,
    }

    impl Int8Dot {
        /// With registers of 256 bits, even if the processor has wider ones.
        pub(crate) fn detect_256() -> Option<Self> {
            is_x86_feature_detected!("avxvnni").then_some(Self(Width::Ymm))
        }
    }

    impl Dot for Int8Dot {
        type Sum = i32;

        fn detect() -> Option<Self> {
            let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
            has.then_some(Self(Width::Zmm)).or_else(Self::detect_256)
        }

        #[inline]
        fn product(
            self,
            strip: &[LeftRows],
            panel: &[[RightStep; STEPS]],
        ) -> [Sums<i32>; DOT_ROWS] {
            match self.0 {
                // SAFETY: the token says that the processor has the features of the function.
                Width::Zmm => unsafe { int8_dot_product(strip, panel) },
                // SAFETY: as above.
                Width::Ymm => unsafe { int8_dot_product_256(strip, panel) },
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn int8_dot_product(strip: &[LeftRows], panel: &[[RightStep; STEPS]]) -> [Sums<i32>; DOT_ROWS] {
        debug_assert_eq!(strip.len(), panel.len());
        let mut registers = [[_mm512_setzero_si512(); REGISTERS]; DOT_ROWS];
        for (left, right) in strip.iter().zip(panel) {
            for (step, right) in right.iter().enumerate() {
                let mut columns = [_mm512_setzero_si512(); REGISTERS];
                for (register, lanes) in columns.iter_mut().zip(right.as_chunks().0) {
                    *register = read_u32(lanes);
                }
                for (registers, left) in registers.iter_mut().zip(left) {
                    let left = _mm512_set1_epi32(left[step].cast_signed());
                    for (sum, &right) in registers.iter_mut().zip(&columns) {
                        *sum = _mm512_dpbusd_epi32(*sum, left, right);
                    }
                }
            }
        }
        let mut sums = [[0; COLUMNS]; DOT_ROWS];
        for (row, registers) in sums.iter_mut().zip(registers) {
            for (lanes, register) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(registers) {
                write_u32(register, bytemuck::cast_mut(lanes));
            }
        }
        sums
    }

    /// Numbers of 32 bits in a register of 256 bits.
    const LANES_256: usize = 8;
    /// Registers of a row.
    const REGISTERS_256: usize = COLUMNS / LANES_256;
    /// Rows that are computed together: 8 of 16 registers have sums.
    const ROWS_256: usize = 2;

    #[target_feature(enable = "avx2,avxvnni")]
    fn int8_dot_product_256(
        strip: &[LeftRows],
        panel: &[[RightStep; STEPS]],
    ) -> [Sums<i32>; DOT_ROWS] {
        debug_assert_eq!(strip.len(), panel.len());
        let mut sums = [[0; COLUMNS]; DOT_ROWS];
        for (group, rows) in sums.as_chunks_mut::<ROWS_256>().0.iter_mut().enumerate() {
            let mut registers = [[_mm256_setzero_si256(); REGISTERS_256]; ROWS_256];
            for (left, right) in strip.iter().zip(panel) {
                let left = &left.as_chunks::<ROWS_256>().0[group];
                for (step, right) in right.iter().enumerate() {
                    let mut columns = [_mm256_setzero_si256(); REGISTERS_256];
                    for (register, lanes) in columns.iter_mut().zip(right.as_chunks().0) {
                        *register = read_u32_256(lanes);
                    }
                    for (registers, left) in registers.iter_mut().zip(left) {
                        let left = _mm256_set1_epi32(left[step].cast_signed());
                        for (sum, &right) in registers.iter_mut().zip(&columns) {
                            *sum = _mm256_dpbusd_avx_epi32(*sum, left, right);
                        }
                    }
                }
            }
            for (row, registers) in rows.iter_mut().zip(registers) {
                for (lanes, register) in row.as_chunks_mut().0.iter_mut().zip(registers) {
                    write_i32_256(register, lanes);
                }
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn read_u32_256(from: &[u32; LANES_256]) -> __m256i {
        // SAFETY: the array has the size of the register.
        unsafe { std::ptr::from_ref(from).cast::<__m256i>().read_unaligned() }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn write_i32_256(register: __m256i, to: &mut [i32; LANES_256]) {
        // SAFETY: the array has the size of the register.
        unsafe { std::ptr::from_mut(to).cast::<__m256i>().write_unaligned(register) }
    }

    /// The processor has `tdpbf16ps` (AMX BF16): products of whole tiles of bf16, added to f32.
    ///
    /// The instruction rounds each addition to the nearest f32, and takes denormal inputs and
    /// results for zero.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Bf16Tiles(());

    /// The processor has `tdpbssd` (AMX INT8): products of whole tiles of signed bytes, added to
    /// i32, which wrap.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Int8Tiles(());

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

    /// Implements [`Tiles`] with the instruction `$multiply` for `$numbers`.
    macro_rules! tiles {
        ($token:ident, $numbers:ident, $multiply:literal, $sum:ty) => {
            impl Tiles for $token {
                type Sum = $sum;

                fn detect() -> Option<Self> {
                    static USABLE: OnceLock<bool> = OnceLock::new();
                    let usable = || has_tiles($numbers) && tiles_are_permitted();
                    USABLE.get_or_init(usable).then_some(Self(()))
                }

                fn products(
                    self,
                    strips: &[&[LeftTiles]],
                    panel: &[RightStep],
                    next: &[RightStep],
                    add: bool,
                    sums: &mut [[Sums<$sum>; TILE_ROWS]],
                ) {
                    let (blocks, rest) = panel.as_chunks::<STEPS>();
                    assert!(rest.is_empty() && !blocks.is_empty(), "a panel has whole blocks of steps");
                    assert_eq!(strips.len(), sums.len(), "there must be sums for each strip");
                    assert!(strips.iter().all(|strip| strip.len() == blocks.len()), "steps must be equal");
                    // SAFETY: the token says that the processor has AMX, and that the system
                    // permits it. The instruction reads the 64 bytes of the configuration.
                    unsafe {
                        asm!("ldtilecfg [{}]", in(reg) &TILE_CONFIG, options(nostack, readonly, preserves_flags));
                    }
                    // Addresses without memory would cost more than they save.
                    let mut next = if next.len() == panel.len() { next } else { panel }.as_ptr();
                    for (strip, sums) in strips.iter().zip(sums) {
                        // SAFETY: the tiles are configured above. The loop runs `blocks.len()`
                        // times, at least once, and each time reads one element of `strip`, of
                        // 2,048 bytes in rows of 64 (tiles at 0 and 1,024), and one of `blocks`, of
                        // 2,048 bytes in rows of 128 (tiles at 0 and 64); both slices have that
                        // many elements. Before, if `add`, it reads `sums`, of 4,096 bytes in rows
                        // of 128 (tiles at 0, 64, 2,048 and 2,112), and it writes them in the end.
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
                                concat!($multiply, " tmm0, tmm4, tmm6"),
                                "prefetcht1 [{next}]",
                                "prefetcht1 [{next} + 64]",
                                "tileloadd tmm5, [{left} + {left_row} + 1024]",
                                concat!($multiply, " tmm1, tmm4, tmm7"),
                                "prefetcht1 [{next} + 128]",
                                "prefetcht1 [{next} + 192]",
                                "add {left}, 2048",
                                concat!($multiply, " tmm2, tmm5, tmm6"),
                                "add {right}, 2048",
                                "add {next}, 256",
                                concat!($multiply, " tmm3, tmm5, tmm7"),
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
        };
    }

    tiles!(Bf16Tiles, BF16, "tdpbf16ps", f32);
    tiles!(Int8Tiles, INT8, "tdpbssd", i32);

    // Bits of CPUID's leaf 7 in EDX (Intel's manual, volume 2).
    const TILES: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    const INT8: u32 = 1 << 25;

    /// Whether the processor says that it has tiles, and products of these numbers.
    fn has_tiles(numbers: u32) -> bool {
        // The highest leaf is in EAX of leaf 0.
        let bits = TILES | numbers;
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & bits == bits
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

    use super::{
        COLUMNS, DOT_ROWS, Dot, LeftRows, LeftTiles, RightStep, STEPS, Sums, TILE_ROWS, Tiles,
    };

    /// Nothing.
    pub(crate) fn prefetch<T>(_: &[T]) {}

    /// Makes steps of two numbers of 16 bits.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Interleave(());

    impl Interleave {
        pub(crate) fn detect() -> Self {
            Self(())
        }

        #[cfg(test)]
        pub(crate) fn plain() -> Self {
            Self(())
        }

        /// Writes the step of `low` and `high` for each column.
        pub(crate) fn write(
            self,
            low: &[u16; COLUMNS],
            high: &[u16; COLUMNS],
            step: &mut RightStep,
        ) {
            super::interleave_plain(low, high, step);
        }
    }

    macro_rules! absent {
        ($($dot:ident and $tiles:ident of $sum:ty;)*) => {$(
            #[derive(Debug, Clone, Copy)]
            pub(crate) struct $dot(Infallible);

            impl Dot for $dot {
                type Sum = $sum;

                fn detect() -> Option<Self> {
                    None
                }

                fn product(
                    self,
                    _: &[LeftRows],
                    _: &[[RightStep; STEPS]],
                ) -> [Sums<$sum>; DOT_ROWS] {
                    match self.0 {}
                }
            }

            #[derive(Debug, Clone, Copy)]
            pub(crate) struct $tiles(Infallible);

            impl Tiles for $tiles {
                type Sum = $sum;

                fn detect() -> Option<Self> {
                    None
                }

                fn products(
                    self,
                    _: &[&[LeftTiles]],
                    _: &[RightStep],
                    _: &[RightStep],
                    _: bool,
                    _: &mut [[Sums<$sum>; TILE_ROWS]],
                ) {
                    match self.0 {}
                }
            }
        )*};
    }

    absent! {
        Bf16Dot and Bf16Tiles of f32;
        Int8Dot and Int8Tiles of i32;
    }

    impl Int8Dot {
        pub(crate) fn detect_256() -> Option<Self> {
            None
        }
    }
}
