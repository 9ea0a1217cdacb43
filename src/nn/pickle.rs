//! The part of Python's pickle format that PyTorch state dicts use.
//!
//! Nothing is ever called: the few constructors a state dict needs (`OrderedDict`, the tensor rebuilders)
//! are recognised by name, every other object becomes [`Value::Object`], which holds only its class's name.
//! Values refer to each other by index, so that neither cycles nor deep nesting can exhaust the stack.
//! Opcodes: CPython `Lib/pickletools.py`; constructors: PyTorch `torch/_utils.py`.

use std::collections::HashMap;
use std::rc::Rc;

use safetensors::Dtype;

type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Debug)]
pub enum Value {
    /// None, a boolean or a float: state dicts need none of them.
    Plain,
    Int(i64),
    Text(Rc<str>),
    /// A class or function, "module name"; never called.
    Global(Rc<str>),
    /// Index into [`Pickle::sequences`]: a tuple or a list.
    Sequence(usize),
    /// Index into [`Pickle::dicts`].
    Dict(usize),
    /// Index into [`Pickle::storages`].
    Storage(usize),
    /// Index into [`Pickle::views`].
    Tensor(usize),
    /// Anything else, with its class's name.
    Object(Rc<str>),
}

/// A block of numbers stored outside of the pickle.
#[derive(Clone, Debug)]
pub struct Storage {
    pub key: Rc<str>,
    pub dtype: Dtype,
    pub elements: usize,
}

/// A strided view of a storage; offset and strides in elements. Not yet checked against the storage.
#[derive(Clone, Debug)]
pub struct View {
    pub storage: Storage,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// One pickle, taken apart.
#[derive(Debug, Default)]
pub struct Pickle {
    pub sequences: Vec<Vec<Value>>,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<Storage>,
    pub views: Vec<View>,
}

/// Reads one pickle from the start of `bytes`: its parts, its root and its length in bytes.
pub fn parse(bytes: &[u8]) -> Result<(Pickle, Value, usize)> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        made: Pickle::default(),
    };
    let root = machine.run()?;
    Ok((machine.made, root, machine.at))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    made: Pickle,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                // Protocol and frame length: nothing to do.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => {
                    let top = self.top()?.clone();
                    self.stack.push(top);
                }
                b'N' | 0x88 | 0x89 => self.stack.push(Value::Plain),
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(value.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Plain);
                }
                b'X' | b'T' | b'B' => self.text(4)?,
                0x8c | b'U' | b'C' => self.text(1)?,
                0x8d | 0x8e => self.text(8)?,
                b'}' => self.new_dict(Vec::new()),
                b']' | b')' => self.new_sequence(Vec::new()),
                b't' | b'l' => {
                    let items = self.pop_to_mark()?;
                    self.new_sequence(items);
                }
                code @ 0x85..=0x87 => {
                    let first = self.depth(usize::from(code - 0x84))?;
                    let items = self.stack.split_off(first);
                    self.new_sequence(items);
                }
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.new_dict(pairs(items)?);
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let first = self.depth(2)?;
                    let items = self.stack.split_off(first);
                    self.insert(pairs(items)?)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.insert(pairs(items)?)?;
                }
                b'q' => self.remember(1)?,
                b'r' => self.remember(4)?,
                0x94 => drop(self.memo.insert(self.memo.len(), self.top()?.clone())),
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b'c' => {
                    let name = format!("{} {}", self.line()?, self.line()?);
                    self.stack.push(Value::Global(name.into()));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(module), Value::Text(name)) = (module, name) else {
                        return Err("a class without a name".into());
                    };
                    let name = format!("{module} {name}");
                    self.stack.push(Value::Global(name.into()));
                }
                b'R' | 0x81 => {
                    let (arguments, callee) = (self.pop()?, self.pop()?);
                    let value = self.construct(callee, arguments)?;
                    self.stack.push(value);
                }
                // Attributes of the object below: none matters here.
                b'b' => drop(self.pop()?),
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(&id)?;
                    self.stack.push(storage);
                }
                code => {
                    return Err(format!(
                        "opcode 0x{code:02x} at byte {} is not one that a state dict needs",
                        self.at - 1
                    ));
                }
            }
        }
    }

    // Constructors.

    fn construct(&mut self, callee: Value, arguments: Value) -> Result<Value> {
        let Value::Global(name) = callee else {
            return Ok(Value::Object("an object".into()));
        };
        let arguments = match arguments {
            Value::Sequence(index) => self.made.sequences[index].clone(),
            _ => Vec::new(),
        };
        match &*name {
            "collections OrderedDict" | "collections defaultdict" => {
                self.made.dicts.push(Vec::new());
                Ok(Value::Dict(self.made.dicts.len() - 1))
            }
            "torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2" => {
                self.view(&arguments)
            }
            "torch._utils _rebuild_parameter"
            | "torch._utils _rebuild_parameter_with_state"
            | "torch Size" => arguments
                .into_iter()
                .next()
                .ok_or(format!("{name} without an argument")),
            _ => Ok(Value::Object(name.replace(' ', ".").into())),
        }
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, ...)`
    fn view(&mut self, arguments: &[Value]) -> Result<Value> {
        let [
            Value::Storage(storage),
            Value::Int(offset),
            shape,
            strides,
            ..,
        ] = arguments
        else {
            return Err("a tensor without storage, offset, shape and strides".into());
        };
        let view = View {
            storage: self.made.storages[*storage].clone(),
            offset: usize::try_from(*offset).map_err(|_| "a negative offset")?,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
        };
        self.made.views.push(view);
        Ok(Value::Tensor(self.made.views.len() - 1))
    }

    /// ("storage", class, key, location, elements, ...)
    fn storage(&mut self, id: &Value) -> Result<Value> {
        let parts = match id {
            Value::Sequence(index) => &self.made.sequences[*index][..],
            _ => &[],
        };
        let [
            _,
            Value::Global(class),
            Value::Text(key),
            _,
            Value::Int(elements),
            ..,
        ] = parts
        else {
            return Err("a storage without class, key and size".into());
        };
        let storage = Storage {
            key: key.clone(),
            dtype: dtype(class)?,
            elements: usize::try_from(*elements).map_err(|_| "a storage of negative size")?,
        };
        self.made.storages.push(storage);
        Ok(Value::Storage(self.made.storages.len() - 1))
    }

    fn sizes(&self, value: &Value) -> Result<Vec<usize>> {
        let Value::Sequence(index) = value else {
            return Err("a shape that is not a tuple".into());
        };
        let size = |item: &Value| match item {
            Value::Int(size) => usize::try_from(*size).map_err(|_| "a negative size".to_string()),
            _ => Err("a size that is not an integer".into()),
        };
        self.made.sequences[*index].iter().map(size).collect()
    }

    // Containers.

    fn new_sequence(&mut self, items: Vec<Value>) {
        self.made.sequences.push(items);
        self.stack
            .push(Value::Sequence(self.made.sequences.len() - 1));
    }

    fn new_dict(&mut self, items: Vec<(Value, Value)>) {
        self.made.dicts.push(items);
        self.stack.push(Value::Dict(self.made.dicts.len() - 1));
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match self.top()? {
            Value::Sequence(index) => {
                let index = *index;
                self.made.sequences[index].extend(items);
                Ok(())
            }
            Value::Object(_) => Ok(()),
            _ => Err("items for something that is not a list".into()),
        }
    }

    fn insert(&mut self, items: Vec<(Value, Value)>) -> Result<()> {
        match self.top()? {
            Value::Dict(index) => {
                let index = *index;
                self.made.dicts[index].extend(items);
                Ok(())
            }
            Value::Object(_) => Ok(()),
            _ => Err("keys for something that is not a dict".into()),
        }
    }

    // Stack and memo.

    fn top(&self) -> Result<&Value> {
        self.stack.last().ok_or("an empty stack".into())
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or("an empty stack".into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or("a missing mark")?;
        if mark > self.stack.len() {
            return Err("a mark above the stack".into());
        }
        Ok(self.stack.split_off(mark))
    }

    /// Where the last `count` values begin.
    fn depth(&self, count: usize) -> Result<usize> {
        self.stack
            .len()
            .checked_sub(count)
            .ok_or("an empty stack".into())
    }

    fn remember(&mut self, width: usize) -> Result<()> {
        let key = self.unsigned(width)?;
        let top = self.top()?.clone();
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<()> {
        let key = self.unsigned(width)?;
        let value = self.memo.get(&key).ok_or("a value that was never stored")?;
        self.stack.push(value.clone());
        Ok(())
    }

    // Bytes.

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        self.at = end.unwrap_or(self.at);
        taken.ok_or("it ends in the middle".into())
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn unsigned(&mut self, width: usize) -> Result<usize> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| "an absurd length".into())
    }

    fn integer(&mut self, width: usize) -> Result<()> {
        let value = self.unsigned(width)?;
        self.stack.push(Value::Int(value as i64));
        Ok(())
    }

    /// A Python integer of any length; one that i64 cannot hold is kept as an object.
    fn long(&mut self) -> Result<()> {
        let length = self.unsigned(1)?;
        let digits = self.take(length)?;
        let value = if length > 8 {
            Value::Object("int".into())
        } else {
            let negative = digits.last().is_some_and(|&top| top >= 0x80);
            let mut bytes = [if negative { 0xff } else { 0 }; 8];
            bytes[..length].copy_from_slice(digits);
            Value::Int(i64::from_le_bytes(bytes))
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let length = self.unsigned(width)?;
        let text: Rc<str> = String::from_utf8_lossy(self.take(length)?).into();
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or("it ends in the middle")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }
}

fn pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>> {
    if !items.len().is_multiple_of(2) {
        return Err("a key without a value".into());
    }
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// The number format of "torch FloatStorage" and its kin.
fn dtype(class: &str) -> Result<Dtype> {
    match class.rsplit(' ').next().unwrap_or_default() {
        "FloatStorage" => Ok(Dtype::F32),
        "DoubleStorage" => Ok(Dtype::F64),
        "HalfStorage" => Ok(Dtype::F16),
        "BFloat16Storage" => Ok(Dtype::BF16),
        "LongStorage" => Ok(Dtype::I64),
        "IntStorage" => Ok(Dtype::I32),
        "ShortStorage" => Ok(Dtype::I16),
        "CharStorage" => Ok(Dtype::I8),
        "ByteStorage" => Ok(Dtype::U8),
        "BoolStorage" => Ok(Dtype::BOOL),
        _ => Err(format!("tensors of type {class} are not supported")),
    }
}
