use editmgt::{EditRequest, Editor, Photo};
use editmgt_train::data::{Captions, PairPhotos};
use editmgt_world::Metrics;
use editmgt_world::touched;
use serde_json::{Value, json};

use crate::metrics::{Differences, Visibility};
use crate::suite::{edits_identity, seconds};
use crate::world::{localised, maps};
use crate::{EvalError, Measured, Panels, Record, Suite};

/// A data set of pairs: each image before is edited by its instruction, and compared with the image
/// after. The data's mask marks the true region; the editor does not see it.
pub struct PairsSuite<'a> {
    /// The editor.
    pub editor: &'a Editor,
    /// The request; the instruction is each row's own.
    pub request: EditRequest,
    /// The data.
    pub pairs: &'a PairPhotos,
    /// Number of rows to use, from the first; `None` for all.
    pub n: Option<u64>,
}

impl Suite for PairsSuite<'_> {
    fn identity(&self) -> Result<Value, EvalError> {
        let edits = edits_identity(self.editor, &self.request)?;
        Ok(json!({"suite": "pairs", "data": self.pairs.fingerprint(), "edits": edits}))
    }

    fn len(&self) -> u64 {
        let rows = self.pairs.len() as u64;
        self.n.map_or(rows, |n| n.min(rows))
    }

    fn captions(&self, index: u64) -> Captions {
        self.pairs.captions(index as usize).clone()
    }

    fn measure(&self, index: u64) -> Result<Measured, EvalError> {
        // `index` is below the number of rows, which are in memory.
        let row = index as usize;
        let mut record = Record {
            index,
            name: Some(self.pairs.name(row).to_owned()),
            category: None,
            kind: None,
            instruction: self.pairs.instruction(row).to_owned(),
            metrics: Metrics::default(),
            skipped: None,
        };
        let pair = match self.pairs.read(row)? {
            Ok(pair) => pair,
            Err(why) => {
                record.skipped = Some(why);
                return Ok(Measured { record, panels: None, seconds: None });
            }
        };
        let photo =
            Photo::from_rgb(pair.before.clone()).map_err(|e| EvalError::edit(index)(e.into()))?;
        let request = self.request.clone().instruction(pair.instruction);
        let edited = self.editor.edit(&photo, &request).map_err(EvalError::edit(index))?;

        let (image, mask) = (edited.image.rgb(), pair.changed.as_ref());
        let kept = Differences::between(image, &pair.before, mask)?;
        let mut metrics = Differences::between(image, &pair.after, mask)?
            .named()
            .and(&Visibility::between(image, &pair.after, mask)?.named())
            .with("pixels_changed", kept.whole.changed)
            .with("l1_from_photo", kept.whole.l1);
        if let Some(outside) = kept.outside {
            metrics = metrics.with("pixels_changed_outside", outside.changed);
        }
        let truth = mask.map(|mask| touched(mask, edited.tokens.size()));
        record.metrics = metrics.and(&localised(&edited, truth.as_deref())?);
        record.category = pair.category;
        let (map, held) = maps(&edited);
        let after = image.clone();
        let panels = Panels { before: pair.before, truth: Some(pair.after), map, held, after };
        Ok(Measured { record, panels: Some(panels), seconds: Some(seconds(&edited)) })
    }
}
