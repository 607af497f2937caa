//! A hold policy that keeps a frame around the photo, and inside the frame what another policy
//! holds: `cargo run -p editmgt-examples --example custom_hold -- [PHOTO INSTRUCTION OUT]`
#![forbid(unsafe_code)]

use editmgt::sampler::{HoldAuto, HoldMargin};
use editmgt::{EditRequest, Editor, Error, HoldMask, HoldPolicy, HoldRequest, Photo, RegionHold};

pub(crate) struct HoldFrame<H> {
    /// Width of the frame.
    pub(crate) tokens: usize,
    /// Decides inside it.
    pub(crate) inside: H,
}

impl<H: RegionHold> RegionHold for HoldFrame<H> {
    fn needs_scores(&self) -> bool {
        self.inside.needs_scores()
    }

    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask, Error> {
        let (batch, size) = (request.scores.batch(), request.scores.size());
        let in_frame = |at: usize, side: usize| at < self.tokens || at + self.tokens >= side;
        let frame = (0..batch * size.len()).map(|i| {
            let (row, column) = (i % size.len() / size.width, i % size.width);
            in_frame(row, size.height) || in_frame(column, size.width)
        });
        HoldMask::new(batch, size, frame.collect())?.union(&self.inside.hold(request)?)
    }

    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        self.inside.threshold(request, image)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] = editmgt_examples::arguments("make the red car blue")?;
    let editor = Editor::embedded().build()?;
    // For one request; `Editor::embedded().hold(..)` sets a policy for all.
    // Inside the frame as the model does it by itself, with a margin of a token.
    let inside = HoldMargin::new(Box::new(HoldAuto), 1);
    let hold = HoldPolicy::custom(HoldFrame { tokens: 2, inside });
    let result = editor.edit(&Photo::open(photo)?, EditRequest::new(instruction).hold(hold))?;
    println!("{:.0}% of the tokens were held", 100.0 * result.report.tokens_held);
    Ok(result.image.save(out)?)
}
