use burn::tensor::Tensor;
use editmgt_core::config::ConfigError;
use editmgt_kernels::{gelu, gelu_tanh, gelu_tanh_gated, quick_gelu};

/// The activation functions that the official checkpoints name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x Φ(x)`, by the error function.
    Gelu,
    /// `x Φ(x)`, by the tanh approximation.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
}

impl Activation {
    /// The function that the config of `component` calls `name` under its key `key`.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for a name without a function here.
    pub fn named(
        component: &'static str,
        key: &'static str,
        name: &str,
    ) -> Result<Self, ConfigError> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Self::GeluTanh),
            "quick_gelu" => Ok(Self::QuickGelu),
            _ => Err(ConfigError::unsupported(
                component,
                key,
                "gelu, gelu_pytorch_tanh, gelu_new or quick_gelu",
                name,
            )),
        }
    }

    /// Applies the function to each element.
    ///
    /// # Shapes
    /// Any, to the same.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_tanh(x),
            Self::QuickGelu => quick_gelu(x),
        }
    }

    /// The function of each element of `gate`, times the element of `x`.
    ///
    /// # Shapes
    /// Two equal ones, to the same.
    pub fn gated<const D: usize>(self, gate: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::GeluTanh => gelu_tanh_gated(gate, x),
            Self::Gelu | Self::QuickGelu => self.forward(gate) * x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Values by the definitions, in double precision.
    #[test]
    fn values_at_known_points() {
        let xs = [-3.0f32, -1.0, -0.25, 0.0, 0.5, 2.0];
        let tanh = [-0.0036374, -0.158808, -0.1003246, 0.0, 0.345714, 1.9545977];
        let cases = [
            ("gelu", [-0.0040497, -0.1586553, -0.1003234, 0.0, 0.3457312, 1.9544997]),
            ("gelu_pytorch_tanh", tanh),
            ("gelu_new", tanh),
            ("quick_gelu", [-0.0180713, -0.1542042, -0.0988004, 0.0, 0.3503884, 1.9356586]),
        ];
        for (name, expected) in cases {
            let x = Tensor::<1>::from_data(xs, &Device::flex());
            let got = Activation::named("test", "act", name).unwrap().forward(x);
            let got = got.try_into_vec_as::<f32>().unwrap();
            for (got, expected) in got.iter().zip(expected) {
                // Seven decimals are given; the error function of a backend has as many.
                assert!((got - expected).abs() < 1e-6, "{name}: {got} {expected}");
            }
        }
        let error = Activation::named("CLIP text", "hidden_act", "relu").unwrap_err().to_string();
        assert!(error.contains("hidden_act") && error.contains("relu"), "{error}");
    }
}
