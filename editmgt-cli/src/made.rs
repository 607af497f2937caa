//! What `generate` and `image-to-image` share: the files of a request's images, and the lines about
//! them.

use std::error::Error as StdError;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::{
    EditError, GenerateRecord, GenerateRequest, GeneratedImage, PixelSize, SaveOptions,
    check_writable,
};
use editmgt_store::FileRoles;

use crate::edit::numbered;
use crate::number::number;
use crate::stop::StopSignal;

/// Where images go, and how many there are.
#[derive(Args)]
pub(crate) struct MadeArgs {
    /// Output file; .png, .jpg, .webp, .bmp or .tiff determines the format
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Generate this many images, from --variation on, as OUT with -0, -1, … before its extension
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = number::<usize>("a number of images, 1 to 1024"))]
    pub(crate) count: Option<usize>,
    /// Write a JSON report: all options, sizes, seconds
    #[arg(long, value_name = "JSON")]
    pub(crate) report: Option<PathBuf>,
}

impl MadeArgs {
    /// The file of each image.
    pub(crate) fn outputs(&self, request: &GenerateRequest) -> Vec<PathBuf> {
        if self.count.is_none() {
            return vec![self.output.clone()];
        }
        let first = request.variation as usize;
        let number = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
        (first..first + request.count).map(|i| numbered(&self.output, number(i))).collect()
    }

    /// Checks that no output is an input or another output, and that it can be written.
    pub(crate) fn check_files(
        &self,
        request: &GenerateRequest,
        outputs: &[PathBuf],
        roles: &mut FileRoles,
    ) -> Result<(), Box<dyn StdError>> {
        // Where it is the model's, any side that it has fits every format.
        let side = |side: Option<usize>| side.unwrap_or(1);
        let size = PixelSize::new(side(request.height), side(request.width));
        for output in outputs {
            check_writable(output, size, &SaveOptions::default())?;
            roles.output("result", output)?;
        }
        if let Some(report) = &self.report {
            editmgt_store::check_writable(report)?;
            roles.output("report", report)?;
        }
        Ok(())
    }
}

/// Writes images as they are made.
pub(crate) struct Written<'a> {
    outputs: &'a [PathBuf],
    record: bool,
    count: usize,
}

impl<'a> Written<'a> {
    /// Into these files, with a record in PNGs or without.
    pub(crate) fn new(outputs: &'a [PathBuf], record: bool) -> Self {
        Self { outputs, record, count: 0 }
    }

    /// Writes the next image.
    pub(crate) fn write(
        &mut self,
        image: &GeneratedImage,
        record: &GenerateRecord,
    ) -> Result<(), EditError> {
        let mut save = SaveOptions::default();
        if self.record {
            save = save.with_text(record.png_text());
        }
        image.image.save_with(&self.outputs[self.count], &save)?;
        self.count += 1;
        Ok(())
    }

    /// Says that the run was stopped, and what there is.
    pub(crate) fn stopped(&self, stopped: &dyn fmt::Display) -> ExitCode {
        let what = match (self.count, self.outputs.len()) {
            (_, 1) => stopped.to_string(),
            (written, all) => format!("{stopped}; {written} of {all} images are written"),
        };
        StopSignal::stopped(&what)
    }
}

/// Prints a line about each image; `cost` ends it.
pub(crate) fn print_made(images: &[GeneratedImage], outputs: &[PathBuf], cost: &dyn fmt::Display) {
    for (GeneratedImage { seed, variation, .. }, output) in images.iter().zip(outputs) {
        let output = output.display();
        // The images are written; a closed pipe is not an error.
        let _unread =
            writeln!(std::io::stdout(), "{output}: seed {seed}, variation {variation}, {cost}",);
    }
}
