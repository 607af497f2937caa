//! The contract of each trait as code.

mod codec;
mod consolidator;
mod hold;
mod noise;
mod scheduler;
mod text;
mod transformer;

use std::fmt::Debug;

use editmgt_core::{ChaChaNoise, Error, GridSize, NoiseRequest, NoiseSource, TokenDraw};

pub use codec::{assert_codec_contract, check_codec};
pub use consolidator::{assert_consolidator_contract, check_consolidator};
pub use hold::{assert_hold_contract, check_hold};
pub use noise::{assert_noise_contract, check_noise};
pub use scheduler::{SchedulerRules, assert_scheduler_contract, check_scheduler};
pub use text::{assert_text_encoder_contract, check_text_encoder};
pub use transformer::{assert_transformer_contract, check_transformer};

/// The rule that an implementation broke.
#[derive(Debug, thiserror::Error)]
#[error("{rule} ({case}): {got}")]
#[non_exhaustive]
pub struct ContractViolation {
    /// What the trait's documentation promises.
    pub rule: &'static str,
    /// The input.
    pub case: String,
    /// What the implementation did.
    pub got: String,
}

type Checked = Result<(), ContractViolation>;

/// Reports violations of one case.
#[derive(Clone, Copy)]
struct Case<'a>(&'a str);

impl Case<'_> {
    fn violation(self, rule: &'static str, got: impl ToString) -> ContractViolation {
        ContractViolation { rule, case: self.0.to_owned(), got: got.to_string() }
    }

    /// The rule holds.
    fn require(self, rule: &'static str, holds: bool, got: impl Debug) -> Checked {
        if holds { Ok(()) } else { Err(self.violation(rule, format!("{got:?}"))) }
    }

    /// The call succeeds.
    fn succeeds<T>(
        self,
        rule: &'static str,
        result: editmgt_core::Result<T>,
    ) -> Result<T, ContractViolation> {
        result.map_err(|error| self.violation(rule, error))
    }

    /// The call is refused with an error that `expected` accepts.
    fn refuses<T>(
        self,
        rule: &'static str,
        result: editmgt_core::Result<T>,
        expected: impl FnOnce(&Error) -> bool,
    ) -> Checked {
        match result {
            Err(error) if expected(&error) => Ok(()),
            Err(error) => Err(self.violation(rule, format!("another error: {error:?}"))),
            Ok(_) => Err(self.violation(rule, "it was accepted")),
        }
    }
}

fn is_value(error: &Error) -> bool {
    matches!(error, Error::Value { .. })
}

fn is_shape(error: &Error) -> bool {
    matches!(error, Error::Shape { .. })
}

/// `count` reproducible numbers in [0, 1).
fn uniforms(seed: u64, count: usize) -> Vec<f32> {
    let size = GridSize::new(1, count);
    let request = NoiseRequest { first_image: 0, batch: 1, size, step: 0 };
    match ChaChaNoise::new(seed).step_noise(&request).map(|noise| noise.draw) {
        Ok(TokenDraw::Uniforms(uniforms)) => uniforms,
        _ => unreachable!("ChaChaNoise draws uniforms for step 0"),
    }
}
