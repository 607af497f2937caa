//! Adapters on a model of two double and two single blocks.

use std::collections::BTreeMap;

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Device;

use super::*;
use crate::MgtModel;
use crate::meissonic::tests::{Inputs, difference, logits, model};

/// A linear layer of each kind that tokens go through.
const LAYERS: [&str; 9] = [
    "transformer_blocks.0.norm1.linear",
    "transformer_blocks.0.attn.to_q",
    "transformer_blocks.1.attn.to_out",
    "transformer_blocks.1.ff.proj_in",
    "transformer_blocks.1.ff.proj_out",
    "single_transformer_blocks.0.attn.to_v",
    "single_transformer_blocks.0.proj_mlp",
    "single_transformer_blocks.0.proj_out",
    "project_to_hidden",
];

fn values(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin() * 0.2).collect()
}

fn lora(model: &MgtModel, layers: &[&str], streams: LoraStreams) -> Lora {
    let rank = 2;
    let of = |layer: &LinearLayer| LoraFactors {
        rank,
        a: values(rank * layer.inputs, 0.7),
        b: values(rank * layer.outputs, 1.3),
    };
    let adapted = model.linear_layers().into_iter().filter(|l| layers.contains(&&*l.path));
    let layers: BTreeMap<_, _> = adapted.map(|layer| (layer.path.clone(), of(&layer))).collect();
    Lora { layers, scale: 1.5, streams, dropout: 0.0 }
}

/// The paths of all modules that burn knows as linear layers.
fn all_linear_layers(model: &MgtModel) -> Vec<String> {
    #[derive(Default)]
    struct Find(Vec<(String, String)>, Vec<String>);
    impl ModuleVisitor for Find {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.0.push((name.to_owned(), container_type.to_owned()));
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
            if let Some(((name, kind), layer)) = self.0.split_last()
                && (name == "weight" && kind == "Struct:Linear")
            {
                let names: Vec<&str> = layer.iter().map(|(name, _)| name.as_str()).collect();
                self.1.push(names.join("."));
            }
        }
    }
    let mut find = Find::default();
    model.visit(&mut find);
    find.1
}

fn attached(model: &MgtModel, loras: &[Lora]) -> MgtModel {
    model.clone().with_lora(loras, false).unwrap()
}

#[test]
fn every_linear_layer_has_a_role() {
    let paths: Vec<String> = model(true).linear_layers().into_iter().map(|l| l.path).collect();
    // 14 of a double block, 6 of a single block; 2 + 2 of the conditioning, 2 of cond_embed,
    // context_embedder, two projections and the connector.
    assert_eq!(paths.len(), 2 * 14 + 2 * 6 + 10);
    assert_eq!(paths.len(), model(true).linear_roles().len());
    assert_eq!(paths, all_linear_layers(&model(true)));
    assert!(LAYERS.iter().all(|layer| paths.iter().any(|path| path == layer)), "{paths:?}");
}

#[test]
fn zero_factors_and_zero_scale_change_nothing() {
    let (model, inputs) = (model(true), Inputs::square());
    let before = logits(&model, inputs.edit(1.1));
    let mut zero = lora(&model, &LAYERS, LoraStreams::Both);
    zero.layers.values_mut().for_each(|factors| factors.b.fill(0.0));
    let off = Lora { scale: 0.0, ..lora(&model, &LAYERS, LoraStreams::Both) };
    for adapted in [
        attached(&model, std::slice::from_ref(&zero)),
        attached(&model, std::slice::from_ref(&off)),
        model.clone().merge_lora(&off).unwrap(),
    ] {
        assert_eq!(difference(logits(&adapted, inputs.edit(1.1)), before.clone()), 0.0);
    }
    let changed = attached(&model, &[lora(&model, &LAYERS, LoraStreams::Both)]);
    assert!(difference(logits(&changed, inputs.edit(1.1)), before) > 1e-2);
}

#[test]
fn merged_and_attached_adapters_give_the_same_logits() {
    let (model, inputs) = (model(true), Inputs::square());
    let lora = lora(&model, &LAYERS, LoraStreams::Both);
    let merged = model.clone().merge_lora(&lora).unwrap();
    let beside = attached(&model, std::slice::from_ref(&lora));
    let (merged, beside) = (logits(&merged, inputs.edit(1.1)), logits(&beside, inputs.edit(1.1)));
    // The same sums of at most 64 products in another order, through four blocks: roundings of
    // 2^-24 that add up to a few hundred.
    let largest = merged.clone().abs().max().into_scalar::<f32>();
    assert!(difference(merged, beside) < 3e-5 * largest.max(1.0));
}

#[test]
fn merged_weights_are_the_sum() {
    let model = model(false);
    let path = "single_transformer_blocks.1.attn.to_k";
    let lora = lora(&model, &[path], LoraStreams::Both);
    let LoraFactors { rank, a, b } = &lora.layers[path];
    let weights = |model: &MgtModel| {
        struct Find(Vec<String>, Vec<f32>);
        impl ModuleVisitor for Find {
            fn enter_module(&mut self, name: &str, _container_type: &str) {
                self.0.push(name.to_owned());
            }
            fn exit_module(&mut self, _name: &str, _container_type: &str) {
                self.0.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if self.0.join(".") == "single_transformer_blocks.1.attn.to_k.weight" {
                    self.1 = param.val().try_into_vec_as::<f32>().unwrap();
                }
            }
        }
        let mut find = Find(Vec::new(), Vec::new());
        model.visit(&mut find);
        find.1
    };
    let (before, after) = (weights(&model), weights(&model.clone().merge_lora(&lora).unwrap()));
    let width = 16;
    for input in 0..width {
        for output in 0..width {
            let product: f32 =
                (0..*rank).map(|r| b[output * rank + r] * a[r * width + input]).sum();
            let at = input * width + output;
            // Two roundings of values below 1.
            assert!((after[at] - before[at] - 1.5 * product).abs() < 2e-7);
        }
    }
}

#[test]
fn adapters_change_their_streams_only() {
    let (model, inputs) = (model(true), Inputs::square());
    let of = |streams| lora(&model, &LAYERS, streams);
    let edit = |model: &MgtModel| logits(model, inputs.edit(1.1));
    let plain = |model: &MgtModel| logits(model, inputs.text_to_image());
    let reference = attached(&model, &[of(LoraStreams::Reference)]);
    let image = attached(&model, &[of(LoraStreams::Image)]);
    let both = attached(&model, &[of(LoraStreams::Both)]);

    // Without reference an adapter of the reference has no effect.
    assert_eq!(difference(plain(&reference), plain(&model)), 0.0);
    assert!(difference(edit(&reference), edit(&model)) > 1e-3);
    // And one of all streams applies to the canvas only.
    assert_eq!(difference(plain(&image), plain(&both)), 0.0);
    assert!(difference(edit(&image), edit(&both)) > 1e-3);
    // Both together equal one of all streams, exactly: each token gets one of them.
    let pair = attached(&model, &[of(LoraStreams::Reference), of(LoraStreams::Image)]);
    assert_eq!(difference(edit(&pair), edit(&both)), 0.0);
}

#[test]
fn lora_factors_reads_back_the_attached_factors() {
    let model = model(true);
    let lora = lora(&model, &LAYERS, LoraStreams::Reference);
    let read = attached(&model, std::slice::from_ref(&lora)).lora_factors().unwrap();
    assert_eq!(read, lora.layers);
    assert!(model.lora_factors().unwrap().is_empty());
}

#[test]
fn only_factors_have_gradients() {
    let device = Device::flex().autodiff();
    let model = crate::meissonic::tests::tiny(true).init(&device).unwrap();
    let lora = lora(&model, &LAYERS, LoraStreams::Both);
    let adapted = model.with_lora(std::slice::from_ref(&lora), true).unwrap();
    struct Count<'a> {
        path: Vec<String>,
        with: usize,
        gradients: &'a burn::tensor::Gradients,
    }
    impl ModuleVisitor for Count<'_> {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let is_factor = self.path.iter().any(|name| name == "lora");
            let gradient = param.val().grad(self.gradients);
            assert_eq!(gradient.is_some(), is_factor, "{}", self.path.join("."));
            self.with += usize::from(is_factor);
        }
    }
    let gradients = logits(&adapted, Inputs::square().edit(1.1)).sum().backward();
    let mut count = Count { path: Vec::new(), with: 0, gradients: &gradients };
    adapted.visit(&mut count);
    assert_eq!(count.with, 2 * LAYERS.len());
}

#[test]
fn dropout_applies_in_training_only() {
    let device = Device::flex().autodiff();
    let model = crate::meissonic::tests::tiny(true).init(&device).unwrap();
    let lora = Lora { dropout: 0.5, ..lora(&model, &LAYERS, LoraStreams::Both) };
    let plain = Lora { dropout: 0.0, ..lora.clone() };
    let dropping = model.clone().with_lora(&[lora], true).unwrap();
    let plain = model.with_lora(&[plain], true).unwrap();
    let inputs = Inputs::square();
    let pass = |model: &MgtModel| logits(model, inputs.edit(1.1)).inner();
    assert!(difference(pass(&dropping), pass(&dropping)) > 1e-3);
    assert_eq!(difference(pass(&dropping.valid()), pass(&plain.valid())), 0.0);
}

#[test]
fn rejects_adapters_that_do_not_fit() {
    let model = model(true);
    let refused = |lora: Lora| model.clone().with_lora(&[lora], false).unwrap_err().to_string();
    let good = |streams| lora(&model, &LAYERS, streams);

    let mut unknown = good(LoraStreams::Both);
    let factors = unknown.layers.remove("project_to_hidden").unwrap();
    unknown.layers.insert("project_to_nowhere".into(), factors);
    assert!(refused(unknown).contains("project_to_nowhere"));

    let mut short = good(LoraStreams::Both);
    short.layers.get_mut("project_to_hidden").unwrap().b.pop();
    assert!(refused(short).contains("project_to_hidden"));

    let text = lora(&model, &["transformer_blocks.0.attn.add_q_proj"], LoraStreams::Reference);
    assert!(refused(text).contains("add_q_proj"));
    let shared = lora(&model, &["cond_embed.linear_1"], LoraStreams::Both);
    assert!(model.clone().merge_lora(&shared).is_ok());
    assert!(refused(shared).contains("cond_embed.linear_1"));
    assert!(refused(Lora { dropout: 1.0, ..good(LoraStreams::Both) }).contains("dropout"));
    assert!(refused(Lora { scale: f64::NAN, ..good(LoraStreams::Both) }).contains("scale"));

    let error = model.clone().merge_lora(&good(LoraStreams::Image)).unwrap_err().to_string();
    assert!(error.contains("Image"), "{error}");
    let twice = attached(&model, &[good(LoraStreams::Both)]);
    let error = twice.with_lora(&[good(LoraStreams::Image)], false).unwrap_err().to_string();
    assert!(error.contains("all at once"), "{error}");
}
