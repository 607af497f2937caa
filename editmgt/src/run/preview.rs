use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{DType, Device, Tensor, TensorData};
use editmgt_core::{EditEvent, EditObserver, Error, Flow, HoldMask, Result, TokenGrid, VqCodec};
use image::RgbImage;

use crate::photo::{
    Blend, ChangeThresholds, Composite, Photo, PixelSize, ResizePlan, VisibleChange, codec_noise,
    to_rgb,
};

/// Decodes previews for an observer that wants them, and for no other.
pub(super) struct Previewing<'a> {
    pub(super) observer: &'a mut dyn EditObserver,
    pub(super) codec: &'a dyn VqCodec,
    /// What previews are composited with; `None` shows them as they are decoded.
    pub(super) composite: Option<PreviewComposite<'a>>,
    /// Why the codec could not; the loop was stopped then.
    pub(super) error: Option<Error>,
}

impl Previewing<'_> {
    fn preview(&mut self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        let shrink = self.observer.preview_shrink();
        let decoded = self.codec.decode_small(tokens, shrink)?;
        match &mut self.composite {
            Some(composite) => composite.render(self.codec, decoded, tokens, shrink),
            None => Ok(decoded),
        }
    }
}

impl EditObserver for Previewing<'_> {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        let flow = self.observer.event(event);
        let EditEvent::Step { completed, total, predicted, .. } = *event else { return flow };
        if flow == Flow::Stop || !self.observer.wants_preview(completed, total) {
            return flow;
        }
        match self.preview(predicted) {
            Ok(image) => {
                self.observer.event(&EditEvent::Preview { completed, total, image: &image })
            }
            Err(error) => {
                self.error = Some(error);
                Flow::Stop
            }
        }
    }
}

/// The composite by visible change at the size of a preview.
pub(super) struct PreviewComposite<'a> {
    pub(super) photo: &'a Photo,
    pub(super) plan: ResizePlan,
    pub(super) reference: &'a TokenGrid,
    pub(super) device: &'a Device,
    pub(super) blend: Blend,
    /// Shrink factor, photo and decoded photo.
    pub(super) small: Option<(usize, RgbImage, RgbImage)>,
}

impl PreviewComposite<'_> {
    fn render(
        &mut self,
        codec: &dyn VqCodec,
        decoded: Tensor<4>,
        tokens: &TokenGrid,
        shrink: usize,
    ) -> Result<Tensor<4>> {
        let [_, _, height, width] = decoded.dims();
        let size = PixelSize::new(height, width);
        let (photo, decoded_photo) = match self.small.take() {
            Some((of, photo, decoded)) if of == shrink => (photo, decoded),
            _ => {
                let photo = self.plan.apply(self.photo, self.device)?;
                let photo = to_rgb(adaptive_avg_pool2d(photo, [height, width]), size)?;
                (photo, to_rgb(codec.decode_small(self.reference, shrink)?, size)?)
            }
        };
        let edit = to_rgb(decoded, size)?;
        let grid = self.reference.size().shrunk(shrink)?;
        let mut changed = TokenGrid::filled(1, grid, 0);
        let width_of_all = self.reference.size().width;
        let ids = tokens.ids().iter().zip(self.reference.ids()).enumerate();
        for (i, _) in ids.filter(|(_, (a, b))| a != b) {
            let row = (i / width_of_all / shrink).min(grid.height - 1);
            let column = (i % width_of_all / shrink).min(grid.width - 1);
            changed.ids_mut()[row * grid.width + column] = 1;
        }
        // Which tokens are held is not known here. With a local codec also a token of the photo's
        // id may show the edit, if it is not held: a preview leaves it out.
        let held = changed.ids().iter().map(|&changed| codec.is_local() && changed == 0).collect();
        let plan = ResizePlan::native(size, 1)?;
        let visible = VisibleChange {
            photo: &photo,
            edit: &edit,
            decoded_photo: &decoded_photo,
            tokens: &changed,
            reference: &TokenGrid::filled(1, grid, 0),
            hold: &HoldMask::new(1, grid, held)?,
            plan: &plan,
            thresholds: ChangeThresholds::new(
                codec_noise(&photo, &decoded_photo)?,
                codec.is_local(),
            ),
        };
        let change = visible.mask()?;
        let composite =
            Composite { photo: &photo, edit: &edit, change: &change, blend: self.blend };
        let image = composite.render()?;
        self.small = Some((shrink, photo, decoded_photo));
        Ok(to_tensor(&image, self.device))
    }
}

/// `[1, 3, H, W]` in 0..1.
fn to_tensor(image: &RgbImage, device: &Device) -> Tensor<4> {
    let plane = |channel: usize| image.pixels().map(move |p| f32::from(p.0[channel]) / 255.0);
    let planes: Vec<f32> = (0..3).flat_map(plane).collect();
    let shape = [1, 3, image.height() as usize, image.width() as usize];
    Tensor::from_data(TensorData::new(planes, shape), (device, DType::F32))
}
