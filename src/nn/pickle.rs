//! The pickle of a PyTorch checkpoint.
//!
//! A pickle is a program. This interpreter knows the few instructions and the few names that state
//! dicts are made of (`pickletools`, protocols 2 to 5; `torch/_utils.py`), builds plain values from
//! them and calls nothing.

use super::pth::Outcome;
use super::weights::Float;
use std::collections::HashMap;
use std::rc::Rc;

/// The element type of a storage. Integers hold no weights.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Float(Float),
    Integer,
}

#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) kind: Kind,
    /// The file `data/KEY` in the archive.
    pub(super) key: String,
}

/// A view: offset and strides in elements.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) storage: Rc<Storage>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The names that a pickle may refer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

impl Global {
    fn find(module: &str, name: &str) -> Outcome<Self> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "HalfStorage") => Self::Storage(Kind::Float(Float::F16)),
            ("torch", "BFloat16Storage") => Self::Storage(Kind::Float(Float::Bf16)),
            ("torch", "FloatStorage") => Self::Storage(Kind::Float(Float::F32)),
            ("torch", "DoubleStorage") => Self::Storage(Kind::Float(Float::F64)),
            ("torch", "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage")
            | ("torch", "ByteStorage" | "BoolStorage") => Self::Storage(Kind::Integer),
            _ => {
                return Err(format!(
                    "it refers to `{module}.{name}`, which is not part of a state dict and is not \
                     run; re-save the weights alone: torch.save(model.state_dict(), PATH)"
                ));
            }
        })
    }
}

/// Cheap to copy, as a pickle can recall a value any number of times. Lists, tuples and dicts are
/// indices into the machine's arenas: they can share and even contain each other, and nesting as
/// deep as the file is long costs no call stack.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// None, numbers with a fraction, bytes: read and not needed.
    Other,
    Int(i64),
    Text(Rc<str>),
    Sequence(usize),
    Dict(usize),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

type Entries = Vec<(Value, Value)>;

pub(super) struct Machine<'a> {
    code: &'a [u8],
    stack: Vec<Value>,
    /// Stack heights.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    sequences: Vec<Vec<Value>>,
    dicts: Vec<Entries>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(code: &'a [u8]) -> Self {
        Self {
            code,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            sequences: Vec::new(),
            dicts: Vec::new(),
        }
    }

    /// Runs to the STOP instruction; the value it leaves.
    pub(super) fn run(&mut self) -> Outcome<Value> {
        loop {
            let [op] = self.bytes()?;
            if op == b'.' {
                return self.pop();
            }
            self.step(op)?;
        }
    }

    /// One instruction, in the names of Python's `pickletools`.
    fn step(&mut self, op: u8) -> Outcome<()> {
        match op {
            0x80 => drop(self.bytes::<1>()?),                    // PROTO
            0x95 => drop(self.bytes::<8>()?),                    // FRAME
            b'(' => self.marks.push(self.stack.len()),           // MARK
            b'0' => drop(self.pop()?),                           // POP
            b'1' => drop(self.pop_mark()?),                      // POP_MARK
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Other), // NONE, NEWTRUE, NEWFALSE
            b'G' => {
                self.bytes::<8>()?; // BINFLOAT
                self.stack.push(Value::Other);
            }
            b'K' => self.int::<1>(|[b]| b.into())?, // BININT1
            b'M' => self.int::<2>(|b| u16::from_le_bytes(b).into())?, // BININT2
            b'J' => self.int::<4>(|b| i32::from_le_bytes(b).into())?, // BININT
            0x8a => self.long()?,                   // LONG1
            0x8c | b'U' => self.text::<1>(|[b]| b.into())?, // SHORT_BINUNICODE, SHORT_BINSTRING
            b'X' | b'T' => self.text::<4>(|b| u32::from_le_bytes(b).into())?, // BINUNICODE, BINSTRING
            0x8d => self.text::<8>(u64::from_le_bytes)?,                      // BINUNICODE8
            b'C' => self.skip::<1>(|[b]| b.into())?,                          // SHORT_BINBYTES
            b'B' => self.skip::<4>(|b| u32::from_le_bytes(b).into())?,        // BINBYTES
            b')' | b']' => self.push_sequence(Vec::new()), // EMPTY_TUPLE, EMPTY_LIST
            0x85..=0x87 => {
                let count = usize::from(op - 0x84); // TUPLE1 to TUPLE3
                let start = self.stack.len().checked_sub(count).ok_or(DAMAGED)?;
                let items = self.stack.split_off(start);
                self.push_sequence(items);
            }
            b't' | b'l' => {
                let items = self.pop_mark()?; // TUPLE, LIST
                self.push_sequence(items);
            }
            b'a' => {
                let item = self.pop()?; // APPEND
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?; // APPENDS
                self.extend_list(items)?;
            }
            b'}' => self.push_dict(), // EMPTY_DICT
            b's' => {
                let value = self.pop()?; // SETITEM
                let key = self.pop()?;
                self.extend_dict(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?; // SETITEMS
                self.extend_dict(items)?;
            }
            b'q' => self.remember::<1>(|[b]| b.into())?, // BINPUT
            b'r' => self.remember::<4>(u32::from_le_bytes)?, // LONG_BINPUT
            0x94 => {
                let index = self.memo.len() as u32; // MEMOIZE
                self.memo.insert(index, self.top()?.clone());
            }
            b'h' => self.recall::<1>(|[b]| b.into())?, // BINGET
            b'j' => self.recall::<4>(u32::from_le_bytes)?, // LONG_BINGET
            b'c' => {
                let (module, name) = (self.line()?, self.line()?); // GLOBAL
                self.stack
                    .push(Value::Global(Global::find(&module, &name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?); // STACK_GLOBAL
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(DAMAGED.into());
                };
                self.stack
                    .push(Value::Global(Global::find(&module, &name)?));
            }
            b'Q' => self.persistent()?, // BINPERSID
            b'R' => self.reduce()?,     // REDUCE
            // BUILD: attributes, such as a state dict's `_metadata`, of the value below.
            b'b' => drop(self.pop()?),
            _ => {
                return Err(format!(
                    "its pickle has the instruction {op:#04x}, which no state dict needs; re-save \
                     the weights alone: torch.save(model.state_dict(), PATH)"
                ));
            }
        }
        Ok(())
    }

    /// A storage, from ("storage", type, key, device, element count).
    fn persistent(&mut self) -> Outcome<()> {
        let arguments = self.pop()?;
        let [
            _,
            Value::Global(Global::Storage(kind)),
            Value::Text(key),
            ..,
        ] = self.sequence(&arguments)?
        else {
            return Err(DAMAGED.into());
        };
        let storage = Storage {
            kind: *kind,
            key: key.to_string(),
        };
        self.stack.push(Value::Storage(Rc::new(storage)));
        Ok(())
    }

    /// What a call of a known name gives.
    fn reduce(&mut self) -> Outcome<()> {
        let arguments = self.pop()?;
        let Value::Global(function) = self.pop()? else {
            return Err(DAMAGED.into());
        };
        let value = match (function, self.sequence(&arguments)?) {
            (Global::OrderedDict, []) => {
                self.push_dict();
                return Ok(());
            }
            // storage, offset, size, stride, requires_grad, backward_hooks
            (Global::RebuildTensor, [Value::Storage(storage), offset, size, stride, ..]) => {
                let (shape, strides) = (self.sizes(size)?, self.sizes(stride)?);
                if shape.len() != strides.len() {
                    return Err(DAMAGED.into());
                }
                let (storage, offset) = (storage.clone(), index(offset)?);
                Value::Tensor(Rc::new(Tensor {
                    storage,
                    offset,
                    shape,
                    strides,
                }))
            }
            (Global::RebuildParameter, [Value::Tensor(tensor), ..]) => {
                Value::Tensor(tensor.clone())
            }
            _ => return Err(DAMAGED.into()),
        };
        self.stack.push(value);
        Ok(())
    }

    /// The entries of the dict that holds the tensors. A checkpoint may wrap it twice.
    pub(super) fn state_dict(&self, top: &Value) -> Outcome<&[(Value, Value)]> {
        let Value::Dict(mut at) = *top else {
            return Err(
                "expected a dict of tensors; re-save it with torch.save(model.state_dict(), PATH)"
                    .into(),
            );
        };
        for _ in 0..2 {
            let nested = |wanted: &str| {
                self.dicts[at].iter().find_map(|entry| match entry {
                    (Value::Text(key), Value::Dict(inner)) if **key == *wanted => Some(*inner),
                    _ => None,
                })
            };
            match nested("state_dict").or_else(|| nested("model")) {
                Some(inner) => at = inner,
                None => break,
            }
        }
        Ok(&self.dicts[at])
    }

    fn take(&mut self, count: u64) -> Outcome<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| DAMAGED)?;
        let (head, rest) = self.code.split_at_checked(count).ok_or(DAMAGED)?;
        self.code = rest;
        Ok(head)
    }

    fn bytes<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let (head, rest) = self.code.split_first_chunk().ok_or(DAMAGED)?;
        self.code = rest;
        Ok(*head)
    }

    /// Up to the next line feed.
    fn line(&mut self) -> Outcome<String> {
        let end = self.code.iter().position(|&b| b == b'\n').ok_or(DAMAGED)?;
        let line = String::from_utf8_lossy(&self.code[..end]).into_owned();
        self.code = &self.code[end + 1..];
        Ok(line)
    }

    fn int<const N: usize>(&mut self, value: fn([u8; N]) -> i64) -> Outcome<()> {
        let value = value(self.bytes()?);
        self.stack.push(Value::Int(value));
        Ok(())
    }

    /// A little-endian two's complement number; longer ones than 64 bits are no sizes.
    fn long(&mut self) -> Outcome<()> {
        let [count] = self.bytes()?;
        let digits = self.take(count.into())?;
        let sign = digits.last().is_some_and(|b| b & 0x80 != 0);
        let mut whole = [if sign { 0xff } else { 0 }; 8];
        self.stack.push(match whole.get_mut(..digits.len()) {
            Some(low) => {
                low.copy_from_slice(digits);
                Value::Int(i64::from_le_bytes(whole))
            }
            None => Value::Other,
        });
        Ok(())
    }

    fn text<const N: usize>(&mut self, length: fn([u8; N]) -> u64) -> Outcome<()> {
        let length = length(self.bytes()?);
        let text = String::from_utf8_lossy(self.take(length)?);
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    fn skip<const N: usize>(&mut self, length: fn([u8; N]) -> u64) -> Outcome<()> {
        let length = length(self.bytes()?);
        self.take(length)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn remember<const N: usize>(&mut self, index: fn([u8; N]) -> u32) -> Outcome<()> {
        let index = index(self.bytes()?);
        self.memo.insert(index, self.top()?.clone());
        Ok(())
    }

    fn recall<const N: usize>(&mut self, index: fn([u8; N]) -> u32) -> Outcome<()> {
        let index = index(self.bytes()?);
        self.stack
            .push(self.memo.get(&index).ok_or(DAMAGED)?.clone());
        Ok(())
    }

    fn top(&self) -> Outcome<&Value> {
        self.stack.last().ok_or(DAMAGED.into())
    }

    fn pop(&mut self) -> Outcome<Value> {
        self.stack.pop().ok_or(DAMAGED.into())
    }

    fn pop_mark(&mut self) -> Outcome<Vec<Value>> {
        let start = self.marks.pop().filter(|&start| start <= self.stack.len());
        Ok(self.stack.split_off(start.ok_or(DAMAGED)?))
    }

    fn push_sequence(&mut self, items: Vec<Value>) {
        self.stack.push(Value::Sequence(self.sequences.len()));
        self.sequences.push(items);
    }

    fn push_dict(&mut self) {
        self.stack.push(Value::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Outcome<()> {
        let Value::Sequence(list) = *self.top()? else {
            return Err(DAMAGED.into());
        };
        self.sequences[list].extend(items);
        Ok(())
    }

    /// Keys and values in turn.
    fn extend_dict(&mut self, items: Vec<Value>) -> Outcome<()> {
        let Value::Dict(dict) = *self.top()? else {
            return Err(DAMAGED.into());
        };
        let (pairs, rest) = items.as_chunks();
        if !rest.is_empty() {
            return Err(DAMAGED.into());
        }
        self.dicts[dict].extend(pairs.iter().map(|[k, v]| (k.clone(), v.clone())));
        Ok(())
    }

    fn sequence(&self, value: &Value) -> Outcome<&[Value]> {
        match value {
            Value::Sequence(at) => Ok(&self.sequences[*at]),
            _ => Err(DAMAGED.into()),
        }
    }

    fn sizes(&self, value: &Value) -> Outcome<Vec<usize>> {
        let sizes = self.sequence(value)?;
        // PyTorch's own limit.
        if sizes.len() > 64 {
            return Err(DAMAGED.into());
        }
        sizes.iter().map(index).collect()
    }
}

const DAMAGED: &str = "its pickle is cut short or damaged; copy or download the file again";

fn index(value: &Value) -> Outcome<usize> {
    match value {
        Value::Int(n) => usize::try_from(*n).map_err(|_| DAMAGED.into()),
        _ => Err(DAMAGED.into()),
    }
}
