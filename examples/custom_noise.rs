//! Noise in mirrored pairs (antithetic variates): where variation 2n draws u, variation 2n+1 draws
//! 1 - u, so that the two differ as much as draws of one seed can:
//! `cargo run -p editmgt-examples --example custom_noise -- [PHOTO INSTRUCTION OUT]`
#![forbid(unsafe_code)]

use editmgt::{
    ChaChaNoise, EditRequest, Editor, Error, NoiseRequest, NoiseSource, Photo, StepNoise, TokenDraw,
};

pub(crate) struct Antithetic<N>(pub(crate) N);

impl<N: NoiseSource> NoiseSource for Antithetic<N> {
    fn step_noise(&self, request: &NoiseRequest) -> Result<StepNoise, Error> {
        let (mut draws, mut confidence) = (Vec::new(), Vec::new());
        for image in request.first_image..request.first_image + request.batch {
            let pair = NoiseRequest { first_image: image / 2, batch: 1, ..*request };
            let noise = self.0.step_noise(&pair)?;
            let TokenDraw::Uniforms(uniforms) = noise.draw else {
                return Err(Error::value("draws", "uniforms", "tokens of a recording"));
            };
            // The largest number below 1, so that 0 does not become 1.
            let most = 1.0f32.next_down();
            let mirrored = |u: f32| if image % 2 == 1 { most - u } else { u };
            draws.extend(uniforms.into_iter().map(mirrored));
            confidence.extend(noise.confidence.into_iter().map(mirrored));
        }
        Ok(StepNoise { draw: TokenDraw::Uniforms(draws), confidence })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] = editmgt_examples::arguments("make the red car blue")?;
    let photo = Photo::open(photo)?;
    let editor = Editor::embedded().noise(Antithetic(ChaChaNoise::new(7))).build()?;
    let request = EditRequest::new(instruction).temperature((1.0, 0.0));
    let [first, second] = [0, 1].map(|variation| request.clone().variation(variation));
    let (first, second) = (editor.edit(&photo, first)?, editor.edit(&photo, second)?);
    let pairs = first.tokens.ids().iter().zip(second.tokens.ids());
    println!("the variations differ in {} tokens", pairs.filter(|(a, b)| a != b).count());
    Ok(second.image.save(out)?)
}
