use burn::tensor::{Int, Tensor};
use editmgt_core::{AttentionRequest, Result, TextRows, Upload, UploadPart, Uploaded};

/// The text rows of each item of an attention request, within an upload; `None` for all rows.
pub(crate) struct RequestedRows(Vec<Option<(UploadPart, usize)>>);

impl RequestedRows {
    /// # Errors
    /// Those of [`Upload::indices`].
    pub(crate) fn new(request: &AttentionRequest, upload: &mut Upload) -> Result<Self> {
        let of_item = |rows: &TextRows| match rows {
            TextRows::All => Ok(None),
            TextRows::Rows(rows) => Ok(Some((upload.indices(rows.iter().copied())?, rows.len()))),
        };
        let items = request.items.iter().map(|item| &item.rows);
        Ok(Self(items.map(of_item).collect::<Result<_>>()?))
    }

    pub(crate) fn on_device(&self, sent: &Uploaded) -> Vec<Option<Tensor<1, Int>>> {
        let rows = self.0.iter().copied();
        rows.map(|rows| rows.map(|(part, count)| sent.indices(part, [count]))).collect()
    }
}
