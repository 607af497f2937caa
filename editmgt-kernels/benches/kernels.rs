//! Every kernel beside its composition, in the shapes of the full model at 512x512.
//!
//! `cargo bench --bench kernels`, on an idle machine; compare within one run. The composition is
//! what the same function computes on an autodiff device, where no kernel runs.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{DType, Device, Distribution, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;
use editmgt_kernels::{
    BufferPool, KeyValues, Operands, PackedWeights, add, add_gated, attention, conv2d, gelu,
    gelu_tanh, group_norm_silu, linear, loop_limit, modulated_layer_norm, norm_and_rotate,
    quick_gelu, rms_norm, silu,
};

/// Tokens of two items (guided), channels, heads and their channels.
const ITEMS: usize = 2;
const TOKENS: usize = 1024;
const WIDTH: usize = 1024;
const HEADS: usize = 8;
const HEAD: usize = WIDTH / HEADS;

fn main() {
    divan::main();
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Kernel,
    Composition,
}

const FORMS: [Form; 2] = [Form::Kernel, Form::Composition];

impl Form {
    fn device(self) -> Device {
        match self {
            Self::Kernel => Device::flex(),
            Self::Composition => Device::flex().autodiff(),
        }
    }

    fn random<const D: usize>(self, shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &self.device())
    }

    fn stream(self) -> Tensor<3> {
        self.random([ITEMS, TOKENS, WIDTH])
    }

    fn of_item(self) -> Tensor<3> {
        self.random([ITEMS, 1, WIDTH])
    }
}

fn elementwise(bencher: Bencher, form: Form, function: fn(Tensor<3>) -> Tensor<3>) {
    let make = || form.random([ITEMS, TOKENS, 4 * WIDTH]);
    bencher.with_inputs(make).bench_values(function);
}

#[divan::bench(args = FORMS)]
fn gelu_tanh_(bencher: Bencher, form: Form) {
    elementwise(bencher, form, gelu_tanh);
}

#[divan::bench(args = FORMS)]
fn gelu_(bencher: Bencher, form: Form) {
    elementwise(bencher, form, gelu);
}

#[divan::bench(args = FORMS)]
fn quick_gelu_(bencher: Bencher, form: Form) {
    elementwise(bencher, form, quick_gelu);
}

#[divan::bench(args = FORMS)]
fn silu_(bencher: Bencher, form: Form) {
    elementwise(bencher, form, silu);
}

#[divan::bench(args = FORMS)]
fn rms_norm_(bencher: Bencher, form: Form) {
    let weight = form.random([WIDTH]);
    let make = || form.stream();
    bencher.with_inputs(make).bench_values(|x| rms_norm(x, weight.clone(), 1e-6));
}

#[divan::bench(args = FORMS)]
fn modulated_layer_norm_(bencher: Bencher, form: Form) {
    let (x, shift, scale) = (form.stream(), form.of_item(), form.of_item());
    bencher.bench_local(|| modulated_layer_norm(x.clone(), shift.clone(), scale.clone(), 1e-6));
}

#[divan::bench(args = FORMS)]
fn norm_and_rotate_(bencher: Bencher, form: Form) {
    let weight = form.random([HEAD]);
    let angles = form.random([1, TOKENS, 1, HEAD / 2]);
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    let make = || form.random([ITEMS, TOKENS, HEADS, HEAD]);
    bencher
        .with_inputs(make)
        .bench_values(|x| norm_and_rotate(x, weight.clone(), 1e-6, cos.clone(), sin.clone()));
}

#[divan::bench(args = FORMS, sample_count = 10)]
fn attention_(bencher: Bencher, form: Form) {
    let heads = |tokens| form.random([ITEMS, HEADS, tokens, HEAD]);
    let (query, key, value) = (heads(TOKENS), heads(2 * TOKENS), heads(2 * TOKENS));
    bencher.bench_local(|| attention(query.clone(), &KeyValues::new(key.clone(), value.clone())));
}

fn linear_of(bencher: Bencher, form: Form, rows: usize, dtype: DType) {
    let (weight, bias) = (form.random([WIDTH, 4 * WIDTH]), form.random([4 * WIDTH]));
    let (weight, x) = (weight.cast(dtype), form.random([rows, WIDTH]));
    bencher.bench_local(|| linear(x.clone(), weight.clone(), Some(bias.clone())));
}

#[divan::bench(args = FORMS, sample_count = 10)]
fn linear_(bencher: Bencher, form: Form) {
    linear_of(bencher, form, ITEMS * TOKENS, DType::F32);
}

/// The weights are in half precision, the rows are not.
#[divan::bench(args = FORMS, sample_count = 10)]
fn linear_bf16(bencher: Bencher, form: Form) {
    linear_of(bencher, form, ITEMS * TOKENS, DType::BF16);
}

#[divan::bench(args = FORMS, sample_count = 10)]
fn linear_f16(bencher: Bencher, form: Form) {
    linear_of(bencher, form, ITEMS * TOKENS, DType::F16);
}

/// As conditioning has them.
#[divan::bench(args = FORMS)]
fn linear_two_rows(bencher: Bencher, form: Form) {
    linear_of(bencher, form, ITEMS, DType::F32);
}

#[divan::bench(args = FORMS)]
fn linear_two_rows_bf16(bencher: Bencher, form: Form) {
    linear_of(bencher, form, ITEMS, DType::BF16);
}

/// Precision of operands, and whether the weight was packed by an earlier product.
#[derive(Debug, Clone, Copy)]
enum Product {
    Exact,
    ExactKept,
    Bf16,
    Bf16Kept,
}

const PRODUCTS: [Product; 4] =
    [Product::Exact, Product::ExactKept, Product::Bf16, Product::Bf16Kept];

impl Product {
    fn bench(self, bencher: Bencher, rows: usize, [inputs, outputs]: [usize; 2]) {
        let form = Form::Kernel;
        let (operands, dtype) = match self {
            Self::Exact | Self::ExactKept => (Operands::Exact, DType::F32),
            Self::Bf16 | Self::Bf16Kept => (Operands::Bf16, DType::BF16),
        };
        let (weight, x) = (form.random([inputs, outputs]).cast(dtype), form.random([rows, inputs]));
        let kept = PackedWeights::new(match self {
            Self::Exact | Self::Bf16 => 0,
            Self::ExactKept | Self::Bf16Kept => usize::MAX,
        });
        let bencher = bencher.counter(ItemsCount::new(2 * rows * inputs * outputs));
        let run = || kept.install(|| operands.install(|| linear(x.clone(), weight.clone(), None)));
        let pool = BufferPool::new();
        pool.install(|| bencher.bench_local(run));
    }
}

/// What the loops of products reach on packed operands in cache: the limit of the products below,
/// whose items are operations, too.
#[divan::bench(args = [Product::ExactKept, Product::Bf16Kept], sample_count = 20)]
fn product_limit(bencher: Bencher, product: Product) {
    // Long beside the start of a thread.
    const PASSES: usize = 2000;
    let operands = match product {
        Product::Exact | Product::ExactKept => Operands::Exact,
        Product::Bf16 | Product::Bf16Kept => Operands::Bf16,
    };
    // Without instructions for bf16 there is nothing to time.
    let Some(operations) = loop_limit(operands, PASSES) else { return };
    bencher.counter(ItemsCount::new(operations)).bench_local(|| loop_limit(operands, PASSES));
}

/// All rows of a step at 512x512.
#[divan::bench(args = PRODUCTS, sample_count = 20)]
fn product_2048_1024_4096(bencher: Bencher, product: Product) {
    product.bench(bencher, ITEMS * TOKENS, [WIDTH, 4 * WIDTH]);
}

#[divan::bench(args = PRODUCTS, sample_count = 20)]
fn product_2048_4096_1024(bencher: Bencher, product: Product) {
    product.bench(bencher, ITEMS * TOKENS, [4 * WIDTH, WIDTH]);
}

/// A block of each thread's cache: near the limit of the loop itself (two threads).
#[divan::bench(args = PRODUCTS, sample_count = 200)]
fn product_576_1024_256(bencher: Bencher, product: Product) {
    product.bench(bencher, 576, [WIDTH, 256]);
}

/// The active cells of a partial step.
#[divan::bench(args = PRODUCTS, sample_count = 20)]
fn product_76_1024_4096(bencher: Bencher, product: Product) {
    product.bench(bencher, 76, [WIDTH, 4 * WIDTH]);
}

#[divan::bench(args = FORMS)]
fn add_gated_(bencher: Bencher, form: Form) {
    let (x, gate) = (form.stream(), form.of_item());
    let make = || form.stream();
    bencher.with_inputs(make).bench_values(|y| add_gated(x.clone(), y, gate.clone()));
}

#[divan::bench(args = FORMS)]
fn add_(bencher: Bencher, form: Form) {
    let x = form.stream();
    bencher.with_inputs(|| form.stream()).bench_values(|y| add(x.clone(), y));
}

#[divan::bench(args = FORMS, sample_count = 10)]
fn group_norm_silu_(bencher: Bencher, form: Form) {
    let (weight, bias) = (form.random([128]), form.random([128]));
    let make = || form.random([1, 128, 512, 512]);
    bencher
        .with_inputs(make)
        .bench_values(|x| group_norm_silu(x, weight.clone(), bias.clone(), 32, 1e-6));
}

fn layer(form: Form, stride: usize) -> Conv2d {
    Conv2dConfig::new([256, 256], [3, 3])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(&form.device())
}

#[divan::bench(args = FORMS, sample_count = 5)]
fn conv2d_3x3(bencher: Bencher, form: Form) {
    let (layer, x) = (layer(form, 1), form.random([1, 256, 128, 128]));
    bencher.bench_local(|| conv2d(&layer, x.clone()));
}

#[divan::bench(args = FORMS, sample_count = 5)]
fn conv2d_3x3_stride_2(bencher: Bencher, form: Form) {
    let (layer, x) = (layer(form, 2), form.random([1, 256, 128, 128]));
    bencher.bench_local(|| conv2d(&layer, x.clone()));
}
