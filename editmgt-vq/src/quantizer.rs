use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{DType, Device, Int, Tensor};
use editmgt_core::{Error, Result, TokenGrid};
use editmgt_kernels::nearest_rows;

/// Distances computed at a time: 32 Mi of them take 128 MiB, a 64x64 grid times 8192 codes.
const MAX_DISTANCES: usize = 1 << 25;

/// The vectors of `[B, C, h, w]` in f32, `[B * h * w, C]`.
fn rows(latents: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = latents.dims();
    let rows = latents.cast(DType::F32).permute([0, 2, 3, 1]);
    rows.reshape([batch * height * width, channels])
}

/// The codebook.
#[derive(Module, Debug)]
pub(crate) struct VectorQuantizer {
    embedding: Embedding,
}

impl VectorQuantizer {
    pub(crate) fn new(codes: usize, channels: usize, device: &Device) -> Self {
        Self { embedding: EmbeddingConfig::new(codes, channels).init(device) }
    }

    /// The id of the nearest code for each vector of `[B, C, h, w]`: `[B, h, w]`.
    ///
    /// Nearest by Euclidean distance, computed in f32; the lowest id in a tie.
    fn nearest(&self, latents: Tensor<4>) -> Tensor<3, Int> {
        let [batch, _, height, width] = latents.dims();
        // Ids have no gradient.
        let inner = |x: Tensor<2>| if x.is_autodiff() { x.inner() } else { x };
        let rows = inner(rows(latents.clone()));
        let codes = inner(self.embedding.weight.val().cast(DType::F32));
        match nearest_rows(&rows, &codes) {
            Some(ids) => ids.reshape([batch, height, width]),
            None => self.nearest_chunked(latents, MAX_DISTANCES),
        }
    }

    fn nearest_chunked(&self, latents: Tensor<4>, max_distances: usize) -> Tensor<3, Int> {
        let [batch, _, height, width] = latents.dims();
        let codes = self.embedding.weight.val().cast(DType::F32);
        let [count, _] = codes.dims();

        // |x - c|² without |x|², which is the same for every code: |c|² - 2 x·c.
        let norms = (codes.clone() * codes.clone()).sum_dim(1).transpose();
        let codes = (codes * -2.0).transpose();
        let nearest = rows(latents)
            .split((max_distances / count).max(1), 0)
            .into_iter()
            .map(|rows| (rows.matmul(codes.clone()) + norms.clone()).argmin(1))
            .collect();
        Tensor::cat(nearest, 0).reshape([batch, height, width])
    }

    /// The tokens of `[B, C, h, w]` vectors. Waits for the device twice: to check the vectors, and
    /// to read the ids.
    ///
    /// # Errors
    /// As [`nearest_checked`](Self::nearest_checked); [`Error::Value`] for vectors that are not
    /// finite, for which the nearest code would be arbitrary; [`Error::Device`] if the device
    /// fails.
    pub(crate) fn tokens(&self, latents: Tensor<4>) -> Result<TokenGrid> {
        let finite = latents.clone().is_finite().all().try_into_scalar::<bool>();
        if !finite.map_err(|e| Error::device("checking latents", e))? {
            let expected = "finite values (check image and weights)";
            return Err(Error::value("encoded image", expected, "NaN or infinity"));
        }
        TokenGrid::from_tensor(self.nearest_checked(latents)?)
    }

    /// As [`nearest`](Self::nearest); wrong channels or an empty tensor are an error.
    pub(crate) fn nearest_checked(&self, latents: Tensor<4>) -> Result<Tensor<3, Int>> {
        self.check("latents [batch, channels, height, width]", &latents)?;
        Ok(self.nearest(latents))
    }

    /// Checks that `[B, C, h, w]` codes have the codebook's channels and are not empty.
    pub(crate) fn check_codes(&self, codes: &Tensor<4>) -> Result<()> {
        self.check("codes [batch, channels, height, width]", codes)
    }

    fn check(&self, what: &'static str, vectors: &Tensor<4>) -> Result<()> {
        let (shape, [_, channels]) = (vectors.dims(), self.shape());
        if shape[1] == channels && !shape.contains(&0) {
            return Ok(());
        }
        Err(Error::shape(what, format!("{channels} channels, no side 0"), format!("{shape:?}")))
    }

    /// The codes of a grid, `[B, C, h, w]`; an error for an empty grid or ids that are not codebook
    /// indices.
    pub(crate) fn embed(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        if tokens.ids().is_empty() {
            return Err(Error::Grid {
                got: tokens.size(),
                why: format!("there is nothing to decode in a batch of {}", tokens.batch()),
            });
        }
        let [codebook_size, _] = self.shape();
        let count = tokens.ids().iter().filter(|&&id| id as usize >= codebook_size).count();
        if count > 0 {
            let total = tokens.ids().len();
            return Err(Error::MaskTokenRemains { count, total, codebook_size });
        }
        let device = self.embedding.weight.val().device();
        Ok(self.lookup(tokens.to_tensor(codebook_size, &device)?))
    }

    /// All codes, `[codes, channels]`.
    pub(crate) fn codebook(&self) -> Tensor<2> {
        self.embedding.weight.val()
    }

    /// Replaces the codes; keeps their dtype and device.
    pub(crate) fn with_codebook(mut self, codes: Tensor<2>) -> Result<Self> {
        if codes.dims() != self.shape() {
            let [expected, got] = [self.shape(), codes.dims()].map(|shape| format!("{shape:?}"));
            return Err(Error::shape("codebook [codes, channels]", expected, got));
        }
        self.embedding.weight = self.embedding.weight.map(|old| {
            let codes = codes.cast(old.dtype()).to_device(&old.device());
            codes.detach().set_require_grad(old.is_require_grad())
        });
        Ok(self)
    }

    /// `[codes, channels]`.
    fn shape(&self) -> [usize; 2] {
        let shape = self.embedding.weight.lazy_shape();
        [shape[0], shape[1]]
    }

    /// The codes of `[B, h, w]` ids, which must be codebook indices: `[B, C, h, w]`.
    fn lookup(&self, ids: Tensor<3, Int>) -> Tensor<4> {
        let [batch, height, width] = ids.dims();
        let codes = self.embedding.forward(ids.reshape([batch, height * width]));
        let [_, _, channels] = codes.dims();
        codes.reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;

    /// Codes at -1, 2, 2 and 5 on the first axis, the two in the middle being equal.
    fn quantizer(device: &Device) -> VectorQuantizer {
        let codes = Tensor::from_floats([[-1.0, 0.0], [2.0, 0.0], [2.0, 0.0], [5.0, 0.0]], device);
        VectorQuantizer { embedding: Embedding { weight: Param::from_tensor(codes) } }
    }

    #[test]
    fn nearest_takes_the_first_in_a_tie_for_any_chunk_size() {
        let device = Device::flex();
        // Channels first: the values of axis 0 for six positions, then those of axis 1.
        let latents = Tensor::<1>::from_floats(
            [-9.0, 2.1, 0.4, 0.5, 3.6, 9.0, 0.0, 7.0, 0.0, 0.0, 0.0, -7.0],
            &device,
        )
        .reshape([1, 2, 2, 3]);
        // 0.5 is equally near to -1 and 2.
        let expected = [0, 1, 0, 0, 3, 3];
        for max_distances in [1, 4, 8, 1000] {
            let ids = quantizer(&device).nearest_chunked(latents.clone(), max_distances);
            assert_eq!(ids.dims(), [1, 2, 3]);
            assert_eq!(ids.try_into_vec_as::<i32>().unwrap(), expected, "{max_distances}");
        }
        let ids = quantizer(&device).nearest(latents);
        assert_eq!(ids.try_into_vec_as::<i32>().unwrap(), expected);
    }

    #[test]
    fn half_precision_distances_are_not_rounded() {
        let device = Device::flex();
        // |c|² - 2 x·c is about -10100 for both codes: the same number in the 8 bits of bf16.
        let codes = Tensor::<2>::from_floats([[100.0], [100.5]], &device).cast(DType::BF16);
        let quantizer =
            VectorQuantizer { embedding: Embedding { weight: Param::from_tensor(codes) } };
        let latents = Tensor::<4>::from_floats([[[[100.5, 100.0]]]], &device).cast(DType::BF16);
        let ids = quantizer.nearest(latents).try_into_vec_as::<i32>().unwrap();
        assert_eq!(ids, [1, 0]);
    }

    #[test]
    fn lookup_is_row_major_and_channels_first() {
        let device = Device::flex();
        let ids = Tensor::<3, Int>::from_ints([[[0, 1], [3, 2]]], &device);
        let codes = quantizer(&device).lookup(ids);
        assert_eq!(codes.dims(), [1, 2, 2, 2]);
        let values = codes.try_into_vec_as::<f32>().unwrap();
        assert_eq!(values, [-1.0, 2.0, 5.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
