//! Which opcodes and names a pickle may consist of: those of a state dict, as `torch.load` with
//! `weights_only` accepts them.

use std::io::{self, BufRead, Read};

use super::container::Refusal;
use crate::PickleError;

/// Longest pickle, bytes. A thousand tensors take about 150 kB.
const MAX_PICKLE: u64 = 8 << 20;
/// Most opcodes of a file. A tensor takes about thirty; each becomes at most one value of about a
/// hundred bytes.
const MAX_OPCODES: u64 = 1_000_000;
/// Longest line: the name of a module or a function.
const MAX_NAME: u64 = 256;

/// The names that the pickle of a state dict refers to.
const NAMES: [&str; 14] = [
    "collections.OrderedDict",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch.BFloat16Storage",
    "torch.BoolStorage",
    "torch.ByteStorage",
    "torch.CharStorage",
    "torch.DoubleStorage",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.IntStorage",
    "torch.LongStorage",
    "torch.ShortStorage",
];

/// What may still be read of the pickles of a file.
pub(super) struct Budget {
    bytes: u64,
    opcodes: u64,
    /// Bytes read so far.
    at: u64,
    /// Length of the data that the pickles are in.
    len: u64,
}

impl Budget {
    /// For pickles in `len` bytes.
    pub(super) fn new(len: u64) -> Self {
        Self { bytes: MAX_PICKLE, opcodes: MAX_OPCODES, at: 0, len }
    }
}

/// Reads a pickle to its end.
pub(super) fn scan(from: &mut impl BufRead, budget: &mut Budget) -> Result<(), Refusal> {
    let mut pickle = Pickle { from, budget };
    loop {
        let at = pickle.budget.at;
        let code = pickle.byte()?;
        pickle.budget.opcodes = pickle
            .budget
            .opcodes
            .checked_sub(1)
            .ok_or(PickleError::TooManyOpcodes { limit: MAX_OPCODES })?;
        match code {
            b'.' => return Ok(()),
            // Protocol 2 is what PyTorch writes unless an option says otherwise.
            0x80 => match pickle.byte()? {
                2 => {}
                protocol => return Err(PickleError::Protocol { protocol }.into()),
            },
            // NONE, NEWTRUE, NEWFALSE; EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT; MARK, TUPLE, TUPLE1 to
            // TUPLE3.
            b'N' | 0x88 | 0x89 | b')' | b']' | b'}' | b'(' | b't' | 0x85..=0x87 => {}
            // APPEND, APPENDS, SETITEM, SETITEMS; REDUCE, BUILD, BINPERSID.
            b'a' | b'e' | b's' | b'u' | b'R' | b'b' | b'Q' => {}
            // BININT1, BINGET, BINPUT; BININT2; BININT, LONG_BINGET, LONG_BINPUT; BINFLOAT.
            b'K' | b'h' | b'q' => pickle.skip(1)?,
            b'M' => pickle.skip(2)?,
            b'J' | b'j' | b'r' => pickle.skip(4)?,
            b'G' => pickle.skip(8)?,
            // LONG1, SHORT_BINSTRING; BINUNICODE.
            0x8a | b'U' => {
                let len = pickle.byte()?;
                pickle.skip(len.into())?;
            }
            b'X' => {
                let mut len = [0; 4];
                pickle.fill(&mut len)?;
                pickle.skip(u32::from_le_bytes(len).into())?;
            }
            // GLOBAL.
            b'c' => {
                let name = format!("{}.{}", pickle.line()?, pickle.line()?);
                if !NAMES.contains(&&*name) {
                    return Err(PickleError::Name { name }.into());
                }
            }
            code => return Err(PickleError::Opcode { code, at }.into()),
        }
    }
}

struct Pickle<'a, R> {
    from: &'a mut R,
    budget: &'a mut Budget,
}

impl<R: BufRead> Pickle<'_, R> {
    /// Takes `len` bytes from the budget.
    fn spend(&mut self, len: u64) -> Result<(), Refusal> {
        if len > self.budget.len - self.budget.at {
            return Err(PickleError::Truncated.into());
        }
        self.budget.bytes =
            self.budget.bytes.checked_sub(len).ok_or(PickleError::TooLong { limit: MAX_PICKLE })?;
        self.budget.at += len;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Refusal> {
        self.spend(bytes.len() as u64)?;
        Ok(self.from.read_exact(bytes)?)
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    fn skip(&mut self, len: u64) -> Result<(), Refusal> {
        self.spend(len)?;
        if io::copy(&mut self.from.by_ref().take(len), &mut io::sink())? == len {
            Ok(())
        } else {
            Err(PickleError::Truncated.into())
        }
    }

    /// A line without its end.
    fn line(&mut self) -> Result<String, Refusal> {
        let mut line = Vec::new();
        self.from.by_ref().take(MAX_NAME).read_until(b'\n', &mut line)?;
        self.spend(line.len() as u64)?;
        match line.pop() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&line).into_owned()),
            _ => Err(PickleError::Truncated.into()),
        }
    }
}
