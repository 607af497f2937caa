//! Downloads from a stand-in for the hub, and the cache that they fill.
#![forbid(unsafe_code)]

mod cache;
mod faults;
mod layouts;
mod refusals;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use editmgt_hub::{Hub, HubSettings, PullEvent, PullObserver, Token};
use editmgt_tests::hub::{StubHub, StubRepository};

/// Weights that go over the second port.
fn large(seed: u8) -> Vec<u8> {
    (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

/// A repository with the official folders and some files beside.
fn model(name: &str, transformer: &str) -> StubRepository {
    StubRepository::new(name)
        .file("README.md", "# A model")
        .file(".gitattributes", "*.safetensors filter=lfs")
        .file("assets/example.png", large(9))
        .file(&format!("{transformer}/config.json"), "{\"a\": 1}")
        .file(&format!("{transformer}/diffusion_pytorch_model.safetensors"), large(1))
        .file(&format!("{transformer}/transformer.py"), "import torch")
        .file("vqvae/config.json", "{}")
        .file("vqvae/diffusion_pytorch_model.safetensors", large(2))
        .file("text_encoder/config.json", "{\"b\": 1}")
        .file("text_encoder/model.safetensors", large(3))
        .file("tokenizer/vocab.json", "{\"v\": 1}")
        .file("tokenizer/merges.txt", "#version: 0.2")
        .file("scheduler/scheduler_config.json", "{\"s\": 1}")
        .file("scheduler/scheduler.py", "import math")
}

/// The files of [`model`] that are needed.
const NEEDED: usize = 9;

fn settings(stub: &StubHub, cache: &Path) -> HubSettings {
    let mut settings = HubSettings::new(cache);
    settings.endpoint = stub.endpoint();
    settings.first_wait = Duration::from_millis(1);
    settings
}

fn hub(stub: &StubHub, cache: &Path) -> Hub {
    Hub::new(settings(stub, cache))
}

fn with_token(stub: &StubHub, cache: &Path, token: &str) -> Hub {
    let mut settings = settings(stub, cache);
    settings.token = Token::new(token);
    Hub::new(settings)
}

fn offline(stub: &StubHub, cache: &Path) -> Hub {
    let mut settings = settings(stub, cache);
    settings.offline = true;
    Hub::new(settings)
}

/// Keeps what was reported; stops after some bytes.
#[derive(Default)]
struct Watcher {
    finished: Vec<String>,
    totals: Vec<u64>,
    waits: Vec<(Duration, String)>,
    stop_after: Option<u64>,
}

impl PullObserver for Watcher {
    fn event(&mut self, event: &PullEvent<'_>) -> ControlFlow<()> {
        match event {
            PullEvent::Finished { file, .. } => self.finished.push(file.path.clone()),
            PullEvent::Received { total, .. } => {
                self.totals.push(*total);
                if self.stop_after.is_some_and(|limit| *total >= limit) {
                    return ControlFlow::Break(());
                }
            }
            PullEvent::Waiting { left, reason } => self.waits.push((*left, (*reason).to_owned())),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
