use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::tensor::Tensor;

use super::TrainError;

/// Freezes every parameter whose path (`encoder.layers.0.bias`) matches any of the regular
/// expressions: no gradient, no optimizer state, no weight decay.
///
/// # Errors
/// [`TrainError::Option`] for an invalid regular expression or one that matches no parameter, and
/// when no parameter is left to train.
pub fn freeze<M: Module>(module: M, patterns: &[String]) -> Result<M, TrainError> {
    let mut module = module;
    for pattern in patterns {
        let group = ParamGroup::from_regex(pattern)
            .map_err(|e| TrainError::option("freeze", "regular expressions", format!("{e:?}")))?;
        let mut count = Count { path: Vec::new(), group: Some(&group), found: 0 };
        module.visit(&mut count);
        if count.found == 0 {
            let expected = "patterns that match a parameter's path";
            return Err(TrainError::option("freeze", expected, format!("{pattern:?}")));
        }
        module = module.freeze_group(group);
    }
    let mut trained = Count { path: Vec::new(), group: None, found: 0 };
    module.visit(&mut trained);
    match (trained.found, patterns.is_empty()) {
        (0, false) => Err(TrainError::option("freeze", "something left to train", "everything")),
        _ => Ok(module),
    }
}

/// Counts the parameters of a group, or the trainable ones.
struct Count<'a> {
    path: Vec<String>,
    group: Option<&'a ParamGroup>,
    found: usize,
}

impl ModuleVisitor for Count<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let counts = match self.group {
            Some(group) => group.matches(&param.id, Some(&self.path.join("."))),
            None => param.is_require_grad(),
        };
        self.found += usize::from(counts);
    }
}
