/// An invalid file of PyTorch. Nothing that its pickle names is called, whatever the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// Neither of the formats of `torch.save`.
    #[error(
        "not a file that torch.save writes (perhaps a pointer to one, or a web page): expected a ZIP archive, or the \
         format before PyTorch 1.6"
    )]
    Format,
    /// The format before PyTorch 0.1.10.
    #[error("a TAR archive, as PyTorch wrote before 0.1.10; save it again with a newer version")]
    Tar,
    /// The ZIP archive is damaged.
    #[error("truncated or damaged: {0}")]
    Zip(String),
    /// A compressed entry, which may fill any memory.
    #[error("{entry:?} is compressed, which torch.save never does")]
    Compressed {
        /// The entry.
        entry: String,
    },
    /// The archive has no pickle, or several.
    #[error("expected one data.pkl in the archive, found {count}")]
    Pickles {
        /// How many it has.
        count: usize,
    },
    /// The pickle ends early.
    #[error("truncated: the pickle has no end")]
    Truncated,
    /// The pickle is longer than the names and shapes of any weights.
    #[error("a pickle of more than {limit} bytes, where weights take less")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// The pickle has more opcodes than the names and shapes of any weights.
    #[error("a pickle of more than {limit} opcodes, where weights take fewer")]
    TooManyOpcodes {
        /// The limit.
        limit: u64,
    },
    /// Another protocol than PyTorch's.
    #[error("pickle protocol {protocol}, expected 2, which torch.save writes by default")]
    Protocol {
        /// The protocol.
        protocol: u8,
    },
    /// An opcode that the pickle of weights doesn't have.
    #[error("opcode {code:#04x} at byte {at} of the pickle, which tensors by name don't need")]
    Opcode {
        /// The opcode.
        code: u8,
        /// Where it is.
        at: u64,
    },
    /// The pickle names a function or class that weights don't refer to.
    #[error(
        "the pickle refers to {name:?}, which tensors by name don't need; it was not called. Save only the state dict, \
         or don't trust the file"
    )]
    Name {
        /// Module and name.
        name: String,
    },
    /// The content of the pickle contradicts itself or the file.
    #[error("{0}")]
    Malformed(String),
    /// The pickle holds no state dict.
    #[error("expected tensors by name, found {found}")]
    NotADict {
        /// Its Python type.
        found: String,
    },
    /// A value of the state dict is no tensor.
    #[error("{key:?}: expected a tensor, found {found}")]
    NotATensor {
        /// The key.
        key: String,
        /// Its Python type.
        found: String,
    },
    /// A tensor repeats its numbers, to a size beyond the file's.
    #[error("{key:?}: a view of {bytes} bytes in a file of {file}")]
    Expanded {
        /// The key.
        key: String,
        /// Bytes of the tensor.
        bytes: u64,
        /// Bytes of the file.
        file: u64,
    },
}
