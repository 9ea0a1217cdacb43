//! A closure tape: every operator records, beside its forward call, how a gradient goes back.

use crate::tensor::Tensor;
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::HashMap;

/// A tensor that may be on a tape.
#[derive(Clone, Debug)]
pub struct Var {
    tensor: Tensor,
    node: Option<usize>,
}

impl Var {
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Does a gradient flow to it?
    pub fn is_recorded(&self) -> bool {
        self.node.is_some()
    }
}

type Backward = Box<dyn FnOnce(Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>>>;

struct Record {
    name: &'static str,
    inputs: Vec<Option<usize>>,
    outputs: Vec<usize>,
    backward: Backward,
}

#[derive(Default)]
struct Recording {
    nodes: usize,
    leaves: HashMap<usize, usize>,
    kept: Vec<Tensor>,
    records: Vec<Record>,
}

/// Records operators while training; an inference tape keeps nothing.
pub struct Tape {
    recording: Option<RefCell<Recording>>,
}

impl Tape {
    pub fn training() -> Self {
        Self {
            recording: Some(RefCell::default()),
        }
    }

    pub fn inference() -> Self {
        Self { recording: None }
    }

    pub fn is_training(&self) -> bool {
        self.recording.is_some()
    }

    /// A tensor that needs no gradient: input pictures, masks.
    pub fn constant(&self, tensor: &Tensor) -> Var {
        Var {
            tensor: tensor.clone(),
            node: None,
        }
    }

    /// A tensor whose gradient is wanted. The same tensor is the same leaf however often it is used.
    pub fn leaf(&self, tensor: &Tensor) -> Var {
        let node = self.recording.as_ref().map(|recording| {
            let mut recording = recording.borrow_mut();
            let identity = tensor.identity();
            if let Some(&node) = recording.leaves.get(&identity) {
                return node;
            }
            let node = recording.nodes;
            recording.nodes += 1;
            recording.leaves.insert(identity, node);
            // Held until the end, so that no other tensor can take its identity.
            recording.kept.push(tensor.clone());
            node
        });
        Var {
            tensor: tensor.clone(),
            node,
        }
    }

    /// Puts an operator on the tape. `backward` gets the gradient of each output (`None` where none
    /// arrived) and returns that of each input; it runs only when a gradient reaches an output.
    pub fn record<const I: usize, const O: usize>(
        &self,
        name: &'static str,
        inputs: [&Var; I],
        outputs: [Tensor; O],
        backward: impl FnOnce([Option<Tensor>; O]) -> Result<[Option<Tensor>; I]> + 'static,
    ) -> [Var; O] {
        let recorded = self
            .recording
            .as_ref()
            .filter(|_| inputs.iter().any(|v| v.is_recorded()));
        let Some(recording) = recorded else {
            return outputs.map(|tensor| Var { tensor, node: None });
        };
        let mut recording = recording.borrow_mut();
        let outputs = outputs.map(|tensor| {
            recording.nodes += 1;
            Var {
                tensor,
                node: Some(recording.nodes - 1),
            }
        });
        recording.records.push(Record {
            name,
            inputs: inputs.iter().map(|v| v.node).collect(),
            outputs: outputs.iter().filter_map(|v| v.node).collect(),
            backward: Box::new(move |grads| {
                let grads = grads
                    .try_into()
                    .unwrap_or_else(|_| unreachable!("one gradient per output"));
                backward(grads).map(Vec::from)
            }),
        });
        outputs
    }

    /// Sends the gradient 1 back from a scalar and uses the tape up.
    ///
    /// # Errors
    /// [`Error::Shape`] when `loss` is no scalar, and those of the gradients.
    pub fn backward(self, loss: &Var) -> Result<Gradients> {
        self.backward_scaled(loss, 1.0)
    }

    /// As [`Tape::backward`] for `scale` times the loss.
    ///
    /// # Errors
    /// As [`Tape::backward`].
    pub fn backward_scaled(self, loss: &Var, scale: f32) -> Result<Gradients> {
        let tensor = loss.tensor();
        if tensor.shape().len() != 1 {
            return Err(Error::shape(
                "backward",
                "a scalar loss",
                tensor.shape().to_string(),
            ));
        }
        let grad = Tensor::new_like(tensor, tensor.shape(), vec![scale])?;
        self.backward_from(&[(loss, grad)])
    }

    /// Sends the given gradients back from several outputs, each in its output's precision.
    ///
    /// # Errors
    /// Those of the gradients.
    pub fn backward_from(self, outputs: &[(&Var, Tensor)]) -> Result<Gradients> {
        let Some(recording) = self.recording else {
            return Ok(Gradients::default());
        };
        let recording = recording.into_inner();
        let mut grads: Vec<Option<Tensor>> = vec![None; recording.nodes];
        for (output, grad) in outputs {
            if let Some(node) = output.node {
                accumulate(&mut grads[node], grad.clone())?;
            }
        }
        for record in recording.records.into_iter().rev() {
            let arrived: Vec<_> = record
                .outputs
                .iter()
                .map(|&node| grads[node].take())
                .collect();
            if arrived.iter().all(Option::is_none) {
                continue;
            }
            tracing::trace!(op = record.name, "backward");
            for (input, grad) in record.inputs.iter().zip((record.backward)(arrived)?) {
                if let (Some(node), Some(grad)) = (*input, grad) {
                    accumulate(&mut grads[node], grad)?;
                }
            }
        }
        let mut by_leaf = HashMap::new();
        for (identity, node) in recording.leaves {
            if let Some(grad) = grads[node].take() {
                by_leaf.insert(identity, grad);
            }
        }
        Ok(Gradients { by_leaf })
    }
}

fn accumulate(slot: &mut Option<Tensor>, grad: Tensor) -> Result<()> {
    *slot = Some(match slot.take() {
        None => grad,
        Some(sum) => sum.plus(&grad)?,
    });
    Ok(())
}

/// The gradients of a tape's leaves.
#[derive(Default)]
pub struct Gradients {
    by_leaf: HashMap<usize, Tensor>,
}

impl Gradients {
    /// The gradient of a leaf, `None` where none reached it.
    pub fn of(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.by_leaf.get(&leaf.identity())
    }

    /// Takes the gradient of a leaf out, so that its memory is free after use.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.by_leaf.remove(&leaf.identity())
    }
}
