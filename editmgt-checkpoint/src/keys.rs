//! Maps the parameters of a module to the keys of its checkpoint.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::KeyRemapper;
use burn::tensor::{Bool, Int, Tensor};
use editmgt_core::KeyMap;

use crate::CheckpointError;

/// A tensor as a checkpoint stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its key.
    pub key: String,
    /// Its shape in the file; for a `Linear` weight `[out, in]`.
    pub shape: Vec<usize>,
}

/// The tensors of a checkpoint of `module`, sorted by key. Doesn't initialise the module's
/// parameters, so it is cheap for a model of any size.
///
/// # Errors
/// A pattern of `keys` that is not a valid regular expression, two parameters with the same key, a
/// parameter that is not a float.
pub fn module_tensors<M: Module>(
    module: &M,
    keys: &KeyMap,
) -> Result<Vec<TensorSpec>, CheckpointError> {
    let keys = CompiledKeys::new(keys)?;
    let parameters = Parameters::of(module, &keys)?;
    let specs = parameters.by_key.into_iter();
    Ok(specs.map(|(key, Parameter { shape, .. })| TensorSpec { key, shape }).collect())
}

/// The dotted path in the module for each key of its checkpoint.
///
/// # Errors
/// As [`module_tensors`].
pub fn module_paths<M: Module>(
    module: &M,
    keys: &KeyMap,
) -> Result<BTreeMap<String, String>, CheckpointError> {
    let parameters = Parameters::of(module, &CompiledKeys::new(keys)?)?;
    Ok(parameters.by_key.into_iter().map(|(key, parameter)| (key, parameter.path)).collect())
}

/// A [`KeyMap`] whose patterns are compiled.
pub(crate) struct CompiledKeys {
    renames: KeyRemapper,
    unused: KeyRemapper,
}

impl CompiledKeys {
    pub(crate) fn new(keys: &KeyMap) -> Result<Self, CheckpointError> {
        let add = |remapper: KeyRemapper, pattern: &str, replacement: &str| {
            remapper.add_pattern(pattern, replacement).map_err(|e| CheckpointError::Pattern {
                pattern: pattern.to_owned(),
                message: e.to_string(),
            })
        };
        let mut renames = KeyRemapper::new();
        for (pattern, replacement) in &keys.renames {
            renames = add(renames, pattern, replacement)?;
        }
        let mut unused = KeyRemapper::new();
        for pattern in &keys.unused {
            unused = add(unused, &format!("^(?:{pattern})$"), "")?;
        }
        Ok(Self { renames, unused })
    }

    fn rename(&self, path: String) -> String {
        self.renames.patterns.iter().fold(path, |key, (pattern, replacement)| {
            pattern.replace_all(&key, replacement.as_str()).into_owned()
        })
    }

    /// Whether a key may have no parameter.
    pub(crate) fn may_be_unused(&self, key: &str) -> bool {
        self.unused.patterns.iter().any(|(pattern, _)| pattern.is_match(key))
    }
}

/// A parameter of a module, as its checkpoint stores it.
pub(crate) struct Parameter {
    /// Its path in the module.
    pub(crate) path: String,
    /// Its shape in the file.
    pub(crate) shape: Vec<usize>,
    /// Whether the module holds its transpose.
    pub(crate) transposed: bool,
    /// Whether it may be quantised: the weight of a linear layer, or a vocabulary.
    pub(crate) quantizable: bool,
}

/// All parameters of a module.
pub(crate) struct Parameters {
    pub(crate) by_key: BTreeMap<String, Parameter>,
}

impl Parameters {
    pub(crate) fn of<M: Module>(module: &M, keys: &CompiledKeys) -> Result<Self, CheckpointError> {
        let mut collector = Collector { keys, at: Position::default(), found: Ok(BTreeMap::new()) };
        module.visit(&mut collector);
        Ok(Self { by_key: collector.found? })
    }
}

/// The position of a traversal: the names and container types from the root.
#[derive(Default)]
pub(crate) struct Position(Vec<(String, String)>);

impl Position {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_owned(), container.to_owned()));
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    /// The dotted path of the module's fields. Enum variants are not fields.
    pub(crate) fn path(&self) -> String {
        let names = self.0.iter().filter(|(_, container)| !container.starts_with("Enum:"));
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(".")
    }

    /// The path with the parameter names of PyTorch.
    fn official_path(&self) -> String {
        let path = self.path();
        if self.in_container(&NORMS) {
            for (burn, official) in [(".gamma", ".weight"), (".beta", ".bias")] {
                if let Some(norm) = path.strip_suffix(burn) {
                    return format!("{norm}{official}");
                }
            }
        }
        path
    }

    /// Whether the parameter is a weight that PyTorch stores as `[out, in]` and burn as
    /// `[in, out]`. (burn's `LinearLayout::Col` is not supported.)
    fn is_linear_weight(&self) -> bool {
        self.in_container(&["Struct:Linear"])
            && self.0.last().is_some_and(|(name, _)| name == "weight")
    }

    /// Whether the parameter is the weight of a linear layer or an embedding table.
    pub(crate) fn is_matrix(&self) -> bool {
        self.is_linear_weight() || self.is_embedding()
    }

    fn is_embedding(&self) -> bool {
        self.in_container(&["Struct:Embedding"])
    }

    fn in_container(&self, containers: &[&str]) -> bool {
        self.0.last().is_some_and(|(_, container)| containers.contains(&container.as_str()))
    }
}

/// Rows of the smallest embedding table that may be quantised. Tables of positions are smaller, and
/// would save nothing.
const MIN_TABLE_ROWS: usize = 1024;

/// burn modules whose `gamma` and `beta` are `weight` and `bias` in PyTorch.
const NORMS: [&str; 5] = [
    "Struct:BatchNorm",
    "Struct:GroupNorm",
    "Struct:InstanceNorm",
    "Struct:LayerNorm",
    "Struct:RmsNorm",
];

struct Collector<'a> {
    keys: &'a CompiledKeys,
    at: Position,
    found: Result<BTreeMap<String, Parameter>, CheckpointError>,
}

impl Collector<'_> {
    fn refuse(&mut self) {
        if self.found.is_ok() {
            self.found = Err(CheckpointError::NotFloat { path: self.at.path() });
        }
    }
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.at.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.at.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(found) = &mut self.found else { return };
        let mut shape = param.lazy_shape().to_vec();
        let transposed = self.at.is_linear_weight();
        if transposed {
            shape.reverse();
        }
        let path = self.at.path();
        match found.entry(self.keys.rename(self.at.official_path())) {
            Entry::Vacant(slot) => {
                let table = self.at.is_embedding() && shape[0] >= MIN_TABLE_ROWS;
                let quantizable = shape.len() == 2 && (transposed || table);
                slot.insert(Parameter { path, shape, transposed, quantizable });
            }
            Entry::Occupied(slot) => {
                let (key, first) = (slot.key().clone(), slot.get().path.clone());
                self.found = Err(CheckpointError::SameKey { key, first, second: path });
            }
        }
    }

    fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {
        self.refuse();
    }

    fn visit_bool<const D: usize>(&mut self, _param: &Param<Tensor<D, Bool>>) {
        self.refuse();
    }
}
