//! Loading a component from a file, compared with reading the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use editmgt::{Compute, EditError, InferencePrecision, ModelError};
use editmgt_backends::Dtype;
use editmgt_checkpoint::{
    WeightFiles, WeightsName, WriteOptions, load_module, module_tensors, write_random,
};
use editmgt_transformer::MgtConfig;

use super::timing::{Described, Done, Reading, Spread};
use super::{BenchRequest, BenchStage, config_error};

/// Bytes per read, as in loading.
const PIECE: usize = 4 << 20;

/// The transformer, as models load it: in bf16 the full one is a file of 2 GB.
pub(super) fn load(
    request: &BenchRequest,
    config: &MgtConfig,
    done: Done<'_>,
) -> Result<(), EditError> {
    let scratch = &request.scratch;
    let dir = tempfile::Builder::new().prefix(".editmgt-bench-").tempdir_in(scratch);
    let dir = dir.map_err(ModelError::io(scratch))?;
    for (stored, run) in
        [(Dtype::F32, &[Dtype::F32][..]), (Dtype::Bf16, &[Dtype::F32, Dtype::Bf16])]
    {
        let supported = |dtype: &&Dtype| request.device.supports_dtype(**dtype);
        let run: Vec<Dtype> = run.iter().filter(supported).copied().collect();
        let dir = dir.path().join(stored.to_string());
        load_as(request, config, &dir, stored, &run, done)?;
        // One file at a time.
        std::fs::remove_dir_all(&dir).map_err(ModelError::io(&dir))?;
    }
    Ok(())
}

/// Writes the weights in one dtype, and loads them in others.
fn load_as(
    request: &BenchRequest,
    config: &MgtConfig,
    dir: &Path,
    stored: Dtype,
    run: &[Dtype],
    done: Done<'_>,
) -> Result<(), EditError> {
    let started = Instant::now();
    let keys = config.keys();
    let shell = config.init(&request.device).map_err(config_error("editmgt"))?;
    let tensors = module_tensors(&shell, &keys).map_err(ModelError::from)?;
    let mut options = WriteOptions::new(WeightsName::Diffusion, stored.into());
    options.max_shard_bytes = u64::MAX;
    write_random(dir, &tensors, &options, 0).map_err(ModelError::from)?;
    let files = WeightFiles::open(dir).map_err(ModelError::from)?;
    let file = files.files()[0].clone();
    // Warms the system's cache, whatever the number of warm-ups.
    let bytes = read(&file)?;
    let setup_seconds = started.elapsed().as_secs_f64();

    for dtype in run {
        let mut reading = Vec::new();
        let input = format!("transformer, {:.3} GB of {stored} as {dtype}", bytes as f64 / 1e9);
        let stage = Described { stage: BenchStage::Load, input, flops: None, setup_seconds };
        let time_reading = || {
            let start = Instant::now();
            read(&file)?;
            reading.push(start.elapsed().as_secs_f64());
            Ok(())
        };
        let load = || {
            let options =
                InferencePrecision::new(&request.device, (*dtype).into(), Compute::Dtype).load;
            let model = load_module(shell.clone(), &files, &keys, options);
            Ok::<_, EditError>(model.map_err(ModelError::from)?)
        };
        let mut timing = stage.measure_after(request, time_reading, load)?;
        let seconds = reading.split_off(request.warmup);
        let median_seconds = Spread::of(&seconds).median;
        let ratio = timing.median_seconds / median_seconds;
        timing.input +=
            &format!("; plain read {median_seconds:.3} s, loading {ratio:.2} times that");
        timing.reading = Some(Reading { bytes, seconds, median_seconds, ratio });
        done(timing);
    }
    Ok(())
}

/// Reads a file to its end and returns its length.
fn read(path: &Path) -> Result<u64, ModelError> {
    let mut file = File::open(path).map_err(ModelError::io(path))?;
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        match file.read(&mut piece).map_err(ModelError::io(path))? {
            0 => return Ok(bytes),
            n => bytes += n as u64,
        }
    }
}
