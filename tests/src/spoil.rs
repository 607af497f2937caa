//! Copies folders and damages the copies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

/// Copies a folder with everything below it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to)
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Changes a JSON file.
pub fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// The `model.safetensors` or `diffusion_pytorch_model.safetensors` of a folder.
pub fn weights(dir: &Path) -> PathBuf {
    let names = ["model.safetensors", "diffusion_pytorch_model.safetensors"];
    names.iter().map(|name| dir.join(name)).find(|path| path.is_file()).unwrap()
}

/// Changes shape and bytes of every tensor whose name contains `named`; there must be one.
pub fn change_tensor(
    path: &Path,
    named: &str,
    mut change: impl FnMut(&mut Vec<usize>, &mut Vec<u8>),
) {
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut changed = 0;
    let mut owned = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let (mut shape, mut bytes) = (view.shape().to_vec(), view.data().to_vec());
        if name.contains(named) {
            change(&mut shape, &mut bytes);
            changed += 1;
        }
        owned.insert(name, (view.dtype(), shape, bytes));
    }
    assert!(changed > 0, "{named} is in none of {:?}", owned.keys());
    let views = owned.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Fills every f32 tensor whose name contains `named` with a number.
pub fn fill(path: &Path, named: &str, value: f32) {
    change_tensor(path, named, |_, bytes| {
        for number in bytes.as_chunks_mut::<4>().0 {
            *number = value.to_le_bytes();
        }
    });
}

/// Splits the weights of a folder into two shards with an index; returns the shards' paths.
pub fn shard(dir: &Path) -> [PathBuf; 2] {
    let whole = weights(dir);
    let file = std::fs::read(&whole).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut tensors = tensors.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let stem = whole.file_stem().unwrap().to_str().unwrap().to_owned();
    let halves = tensors.split_at(tensors.len() / 2);
    let mut map = serde_json::Map::new();
    let shards = [(1, halves.0), (2, halves.1)].map(|(number, half)| {
        let name = format!("{stem}-{number:05}-of-00002.safetensors");
        map.extend(half.iter().map(|(key, _)| (key.clone(), name.clone().into())));
        let views = half.iter().map(|(key, view)| (key, view));
        let path = dir.join(name);
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    });
    let index = serde_json::json!({"metadata": {"total_size": file.len()}, "weight_map": map});
    let path = dir.join(format!("{stem}.safetensors.index.json"));
    std::fs::write(path, index.to_string()).unwrap();
    std::fs::remove_file(whole).unwrap();
    shards
}

/// Weights that are stored in half precision: all of an f32 file.
pub fn in_half_precision(file: &[u8]) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let halves: BTreeMap<String, (Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let numbers =
                view.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
            let bytes = numbers.flat_map(|number| half::f16::from_f32(number).to_le_bytes());
            (name, (view.shape().to_vec(), bytes.collect()))
        })
        .collect();
    let views = halves.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(safetensors::Dtype::F16, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A weights file with one more tensor of zeros.
pub fn with_tensor(file: &[u8], name: &str, shape: &[usize]) -> Vec<u8> {
    let zeros = vec![0; 4 * shape.iter().product::<usize>()];
    let tensors = SafeTensors::deserialize(file).unwrap();
    let mut views = tensors.tensors();
    let view = TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &zeros).unwrap();
    views.push((name.to_owned(), view));
    safetensors::serialize(views, None).unwrap()
}

/// The same weights as `torch.save` wrote them before PyTorch 1.6, without an archive. All are f32.
pub fn as_pickle(file: &[u8]) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let word =
        |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let number = |value: usize| [b"J", &(value as u32).to_le_bytes()[..]].concat();
    let sides = |sides: &[usize]| {
        let sides: Vec<u8> = sides.iter().flat_map(|&side| number(side)).collect();
        [b"(", &sides[..], b"t"].concat()
    };
    let (mut state, mut keys, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (name, view)) in tensors.tensors().into_iter().enumerate() {
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
        let (shape, count) = (view.shape(), view.data().len() / 4);
        let strides: Vec<usize> =
            (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
        let key = word(&index.to_string());
        for part in [
            &word(&name)[..],
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            &word("storage"),
            b"ctorch\nFloatStorage\n",
            &key,
            &word("cpu"),
            &number(count),
            b"tQK\0",
            &sides(shape),
            &sides(&strides),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ] {
            state.extend_from_slice(part);
        }
        keys.extend(key);
        data.extend((count as u64).to_le_bytes());
        data.extend_from_slice(view.data());
    }
    let system = [b"\x80\x02}", &word("little_endian")[..], b"\x88s."].concat();
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    for part in [&system[..], b"\x80\x02}(", &state, b"u.\x80\x02](", &keys, b"e.", &data] {
        file.extend_from_slice(part);
    }
    file
}
