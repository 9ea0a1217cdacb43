//! astray finds defective parts after seeing only good ones: "Asymmetric Student-Teacher Networks
//! for Industrial Anomaly Detection" (Rudolph, Wehrbein, Rosenhahn, Wandt; WACV 2023) on a tensor
//! engine of its own.
//!
//! # The map, in layer order: a room imports only from those above it
//!
//! | room | what is in it |
//! |---|---|
//! | [`error`] | the one error type; usage errors end with status 2, failed work with 1 |
//! | [`files`] | the folder for caches; files written whole or not at all |
//! | [`kernel`] | what a kernel call says of itself to a profiler: name, shapes, cost, variant |
//! | [`gpu`] | the only room that talks to the graphics API: adapters, memory pool, pipelines, launches |
//! | [`cpu`] | the native twin of every shader, under the same file name |
//! | [`tensor`] | shape, device, tensor: contiguous, N,H,W,C; f32, or f16 on a GPU opened so |
//! | [`tape`] | a closure tape: the gradient stands beside the forward call |
//! | [`ops`] | operators: shape check, run on the tensor's device, gradient, cost |
//! | [`nn`] | layers, Adam, weight files, random numbers |
//! | [`models`] | EfficientNet, whitening and RealNVP (teacher), student |
//! | [`weights`] | weights by name: the shipped ones, public files; table, download, cache, inspection, conversion |
//! | [`data`] | pictures, depth maps, data sets in their layouts, what stands out in them, feature cache; no tensors |
//! | [`evaluate`] | AUROC, AUPRO, conformal p-values, regions, heat maps, the report page |
//! | [`detector`] | configuration, features, training, scores, calibration, the model file |
//! | [`profile`] | kernel times against the measured roof, traces, comparisons, benchmarks |
//! | [`selftest`] | every operator against plain f64 loops; gradients against differences |
//! | [`cli`] | arguments, one file per command |
//!
//! # Where it does more than the paper, and why
//!
//! - The preset `tiny` is for minutes on two cores, not for the paper's hours: features are
//!   standardised per channel and whitened ([`models::whitening`]), the learning rate falls along a cosine, the map
//!   is distance and likelihood together ([`detector::Fusion`]), the score is the mean of its highest 5 %, a
//!   tenth of the good parts is kept back for the scales of both and the threshold (of 40 and fewer all are scored by
//!   networks that had not seen them, [`detector::folds`]), and pictures are learned in batches of 2. `thorough` is the same with
//!   wider networks and a longer training. The presets `mvtec2d` and `mvtec3d` have none of this.
//!   `benches/NOTEBOOK.md` has the experiments.
//! - A TIFF's pages are read as plain numbers, whatever its tags call them, and its tiles whole; what the numbers mean is
//!   decided here (`data::tiff`): the decoder refuses palettes, and loses the end of tiles that it reads row by row.
//!   A file of another kind is named with how to convert it (`data::foreign`). White of more than 8 bits follows from
//!   the training pictures (`input.white`).
//! - Features of several blocks may be joined, the coarser maps stretched to the finest's size (`backbone.tap`).
//! - A small backbone, `weights/efficientnet-lite0.safetensors`, is in the program (cargo's feature
//!   `shipped-weights`; beside it our own, `astray-b0`) and is what `tiny` and the demo use where there is no
//!   `--weights` ([`weights::shipped`]). The preset's network, blocks and picture size are `auto`: they follow from
//!   the weights ([`detector::Choice`]), and a model keeps what they became. `astray licenses` tells what the
//!   program contains; `tools/licenses.py` lists the crates. The paper's presets name their network and want its weights.
//! - The model file holds the folded backbone beside its weights' sha256: `predict` needs one file. The
//!   student is in it with its batch norms folded, too. Tensors are read one by one into networks of
//!   zeros: a model is in memory once.
//! - Matrix products on the CPU are our own ([`cpu`]'s `matmul` and `lanes`): the epilogue is fused, and
//!   every element is summed in the same order, so results do not depend on the number of threads. Weights
//!   are packed in each call: that costs 4 % of the extractor, and a packed copy would double their memory.
//! - 3×3 and 5×5 convolutions on the CPU go by Winograd's F(4×4, 3×3) and F(2×2, 5×5) where there are tiles
//!   enough, at points that keep the error below 3e-6; weights are transformed a block at a time, and what
//!   belongs to one point lies a line of the cache further than a power of two from the next.
//! - An inverted bottleneck's expansion, depthwise convolution and mean are one kernel on the CPU
//!   ([`ops::bottleneck`]); on a GPU they are the operators that they are made of. The gate multiplies the
//!   projection's weights, on a GPU where the map has pixels enough. EfficientNet-Lite has neither mean nor gate.
//! - What pixels become belongs to the network ([`models::efficientnet::Normalisation`]), and follows from its name.
//! - What a GPU's kernel cannot see at once (a binding may end at 128 MiB) is made in bands of rows, the
//!   expanded map never whole. Rows are copied to the kernel and back; bits stay the same, save where the number
//!   of pixels chooses another kernel for a band. Training is not made in bands, nor is what has fewer than four
//!   rows in a binding: it is refused.
//! - `--max-memory` estimates on the CPU what is resident while features are made and steps are taken, the program
//!   and memory that waits to be used again included; on a GPU it rehearses two steps, with half the batch
//!   until they fit.
//! - `shaders/roof.wgsl`, its variant `shaders/roof/matrix.wgsl` and `cpu::roof` are no operators, so they have no files in
//!   `src/ops` and `src/selftest` (`tests/profile.rs` proves them): the profiler measures
//!   the device with them. The roof is that of matrix units where kernels use them.
//! - Host memory waits in a pool ([`cpu::pool`], which a self-test fills with NaN), and the instruction set is chosen
//!   once ([`cpu::isa`], `ASTRAY_ISA`): the global states beside the allocator's and a subscriber that hears nothing
//!   ([`profile::record`]). The program's allocator is the system's, with large
//!   blocks beginning on a cache line, on Linux in huge pages ([`cpu::aligned`]); a program that uses the library
//!   declares it itself, or is slower. Its main thread is one of those that compute (`main.rs`), as a program's should be.
//! - A part whose score in f16 is within 1 % of the threshold, and of what was subtracted where scores are fused, is
//!   scored again in f32 ([`detector::Judge`]).
//! - Where a convolution of a flow is split, the coupling adds the slices up ([`ops::coupling::coupling_of`]).
//! - A depthwise convolution, too, has a kernel of its own for software adapters: lanes share a channel and its
//!   weights, since such a driver loads what they do not share one after the other.
//! - The tuner holds some pixels of a result, all their channels, against the formula in f64, and keeps its times on disk kernel by
//!   kernel; until all kernels of a convolution are timed, the likely one runs. So a GPU that tunes gives the same
//!   bits from one run to the next only when its kernels are known.
//! - Into how many slices a sum is cut (for small outputs, and so that the last workgroups do not run alone) is measured
//!   like the kernel itself, also for the gradient of weights. In f16 Winograd's F(2×2) has its products on matrix units.
//! - In f16 the parameters' f32 stay beside them in the tensor ([`tensor::Tensor::parameter`]): an optimiser
//!   changes those and writes the f16 from them, and a model file holds them. The loss is scaled, and the
//!   kernel of Adam itself leaves everything as it is where a gradient overflowed, so the host asks once a
//!   step.
//! - A device is waited for twice in a prediction: features come to the host, where they are standardised, joined
//!   with depth and cached; distance and likelihood are read together at the features' size, added and up-sampled
//!   there. While it trains in f32, every eighth step.
//! - Matrix units run 8×8×8 in f32 and, in f16, 16×16×16 or 8×8×8 from one shader (and another for the gradient of
//!   weights, f16 alone). On a real GPU 16×16×16 ran, on the llvmpipe of Mesa 26.2 8×8×8 in f16; for older
//!   drivers a test replaces the matrices with arrays. Metal lists 8×8×8, but with subgroups of 4 to 64: not used.
//! - NaN and infinities are on the CPU what they are in PyTorch (but Winograd's tiles mix pixels, so that an
//!   infinity makes its neighbours NaN). WGSL lets a compiler take it that there are none, so a GPU gets none: they, and in f16
//!   what is too large for it, are refused where data is uploaded ([`tensor::Tensor::new`]). Where a sum overflows there,
//!   kernels compare so that NaN stays NaN on the devices that were tried, and the host looks at what it reads: features,
//!   losses, maps, scores and, in f16, the inverse of a flow are finite, or an error ([`Error::NotFinite`]).
//! - Kernels run without run-time checks of bounds, loops and divisions: they cost 12 to 30 % on an H100.
//!   The self-test runs every kernel on odd sizes, and its memory holds NaN before.
//!
//! # The rules
//!
//! `tests/tidy.rs` holds the rules: namesakes of every shader, the graphics API in one room, no upward
//! import, no long file, parameter blocks equal in WGSL and Rust.

pub mod cli;
pub mod cpu;
pub mod data;
pub mod detector;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod gpu;
pub mod kernel;
pub mod models;
pub mod nn;
pub mod ops;
pub mod profile;
pub mod selftest;
pub mod tape;
pub mod tensor;
pub mod weights;

pub use error::{Error, Result};
