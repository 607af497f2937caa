use std::io::Cursor;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, ImageDecoder, ImageFormat, Limits};

/// Whether there are more frames. Damage is ignored here.
pub(super) fn is_animation(bytes: &[u8], format: ImageFormat, limits: Limits) -> bool {
    let bytes = Cursor::new(bytes);
    match format {
        // The number of frames is only known by reading them.
        ImageFormat::Gif => GifDecoder::new(bytes).is_ok_and(|mut decoder| {
            decoder.set_limits(limits).is_ok() && decoder.into_frames().nth(1).is_some()
        }),
        ImageFormat::Png => {
            // Without limits a compressed colour profile could expand a thousandfold.
            PngDecoder::with_limits(bytes, limits)
                .is_ok_and(|decoder| decoder.is_apng().unwrap_or(false))
        }
        ImageFormat::WebP => WebPDecoder::new(bytes).is_ok_and(|decoder| decoder.has_animation()),
        _ => false,
    }
}
