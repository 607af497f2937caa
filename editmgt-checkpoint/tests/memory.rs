//! Peak memory of loading. The only test of its file, and so of its process, because it reads the
//! peak of the whole process.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device};
use editmgt_checkpoint::{
    WeightFiles, WeightsName, WriteOptions, load_module, module_tensors, write_random,
};
use editmgt_core::KeyMap;

#[derive(Module, Debug)]
struct Stack {
    layers: Vec<Linear>,
}

const WIDTH: usize = 1024;
const LAYERS: usize = 24;
const MIB: usize = 1 << 20;

fn stack() -> Stack {
    let device = Device::flex();
    Stack { layers: (0..LAYERS).map(|_| LinearConfig::new(WIDTH, WIDTH).init(&device)).collect() }
}

/// Peak memory of the process, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn loading_takes_one_copy_of_the_weights() {
    let root = tempfile::tempdir().unwrap();
    let specs = module_tensors(&stack(), &KeyMap::default()).unwrap();
    let before = peak();

    let dir = root.path().join("weights");
    let options = WriteOptions::new(WeightsName::Model, DType::F32);
    write_random(&dir, &specs, &options, 1).unwrap();
    let written = peak() - before;
    // A few pieces of 4 MiB, not the 96 MiB of the file.
    assert!(written < 24 * MIB, "writing took {} MiB", written / MIB);

    let files = WeightFiles::open(&dir).unwrap();
    let weights = LAYERS * WIDTH * WIDTH * size_of::<f32>();
    let module = load_module(stack(), &files, &KeyMap::default(), DType::F32).unwrap();
    let loaded = peak() - before;
    assert!(loaded < weights + 24 * MIB, "loading took {} MiB", loaded / MIB);
    assert!(module.layers[0].weight.is_initialized());
}
