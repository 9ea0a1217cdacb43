//! Every operator, forward and backward.

use super::{Reference, devices, generated};
use astray::ops::adam::{Adam, adam};
use astray::ops::batch_norm::{Running, batch_norm};
use astray::ops::conv2d::{Conv2d, Padding, conv2d};
use astray::ops::coupling::{coupling, coupling_inverse};
use astray::ops::permute::{Permutation, join};
use astray::ops::resize::{Filter, resize};
use astray::ops::unshuffle::{shuffle, unshuffle};
use astray::ops::{
    Activation, activation::activation, add::add, concat::concat, depthwise::depthwise,
    distance::distance, likelihood::likelihood, mean::mean, scale::scale, split::split, sum::sum,
};
use astray::tape::{Tape, Var};
use astray::tensor::{Device, Shape, Tensor};
use serde_json::Value;

/// A case as the file describes it, its inputs on a tape.
struct Call<'a> {
    name: String,
    params: &'a Value,
    inputs: &'a [Value],
    device: &'a Device,
    tape: Tape,
}

impl Call<'_> {
    fn input(&self, name: &str) -> Tensor {
        let input = self
            .inputs
            .iter()
            .find(|i| i["name"] == name)
            .unwrap_or_else(|| panic!("{}: {name}", self.name));
        let dims: Vec<usize> = serde_json::from_value(input["shape"].clone()).unwrap();
        let (bound, offset) = (
            input["bound"].as_f64().unwrap(),
            input["offset"].as_f64().unwrap(),
        );
        let shape = Shape::new(&dims);
        let data = generated(&format!("{}.{name}", self.name), shape, bound, offset);
        Tensor::new(self.device, shape, data).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.inputs.iter().any(|i| i["name"] == name)
    }

    fn number(&self, name: &str) -> f64 {
        self.params[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{}: {name}", self.name))
    }

    fn size(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    fn conv(&self) -> Conv2d {
        let p: Vec<usize> = serde_json::from_value(self.params["padding"].clone()).unwrap();
        let replicate = self.params["mode"] == "replicate";
        let padding = Padding {
            top: p[0],
            bottom: p[1],
            left: p[2],
            right: p[3],
            replicate,
        };
        Conv2d {
            stride: self.size("stride"),
            ..Conv2d::new(padding)
        }
    }

    fn bias(&self, channels: usize) -> Tensor {
        match self.has("b") {
            true => self.input("b"),
            false => Tensor::full(self.device, [channels], 0.0).unwrap(),
        }
    }
}

/// Outputs by name, and the leaves whose gradients the file may hold.
type Ran = (Vec<(&'static str, Var)>, Vec<(&'static str, Tensor)>);

fn run(op: &str, call: &Call) -> Ran {
    let tape = &call.tape;
    let leaf = |name| {
        let tensor = call.input(name);
        (tape.leaf(&tensor), tensor)
    };
    let constant = |name| tape.constant(&call.input(name));
    let pointwise = |f| {
        let (x, xt) = leaf("x");
        (
            vec![("y", activation(tape, &x, f).unwrap())],
            vec![("dx", xt)],
        )
    };
    match op {
        "conv2d" => {
            let ((x, xt), (w, wt)) = (leaf("x"), leaf("w"));
            let bt = call.bias(wt.shape().channels());
            let y = conv2d(tape, &x, &w, &tape.leaf(&bt), None, call.conv()).unwrap();
            (vec![("y", y)], vec![("dx", xt), ("dw", wt), ("db", bt)])
        }
        "depthwise_conv2d" => {
            let w = constant("w");
            let b = tape.constant(&call.bias(w.tensor().shape().channels()));
            (
                vec![(
                    "y",
                    depthwise(tape, &constant("x"), &w, &b, call.conv()).unwrap(),
                )],
                vec![],
            )
        }
        "batch_norm_train" => {
            let ((x, xt), (w, wt), (b, bt)) = (leaf("x"), leaf("weight"), leaf("bias"));
            let running = Running {
                mean: call.input("running_mean"),
                var: call.input("running_var"),
            };
            let (eps, momentum) = (call.number("eps") as f32, call.number("momentum") as f32);
            let (y, running) = batch_norm(tape, &x, &w, &b, &running, eps, momentum).unwrap();
            let (mean, var) = (tape.constant(&running.mean), tape.constant(&running.var));
            let outputs = vec![
                ("y", y),
                ("running_mean_after", mean),
                ("running_var_after", var),
            ];
            (outputs, vec![("dx", xt), ("dweight", wt), ("dbias", bt)])
        }
        "relu" => pointwise(Activation::Relu),
        "relu6" => pointwise(Activation::Relu6),
        "silu" => pointwise(Activation::Silu),
        "sigmoid" => pointwise(Activation::Sigmoid),
        "leaky_relu" => pointwise(Activation::LeakyRelu(call.number("slope") as f32)),
        "scale" => (
            vec![("y", scale(tape, &constant("x"), &constant("gate")).unwrap())],
            vec![],
        ),
        "add" => {
            let ((a, at), (b, bt)) = (leaf("a"), leaf("b"));
            (
                vec![("y", add(tape, &a, &b).unwrap())],
                vec![("da", at), ("db", bt)],
            )
        }
        "global_mean" => (vec![("y", mean(tape, &constant("x")).unwrap())], vec![]),
        "sum" => {
            let (x, xt) = leaf("x");
            (vec![("y", sum(tape, &x, 1.0).unwrap())], vec![("dx", xt)])
        }
        "likelihood_map" => {
            let ((z, zt), (l, lt)) = (leaf("z"), leaf("log_det"));
            let map = likelihood(tape, &z, &l, &call.input("mask")).unwrap();
            (vec![("y", map)], vec![("dz", zt), ("dlog_det", lt)])
        }
        "distance_map" => {
            let (s, st) = leaf("student");
            let map = distance(tape, &s, &call.input("teacher"), &call.input("mask")).unwrap();
            (vec![("y", map)], vec![("dstudent", st)])
        }
        "concat" => {
            let ((a, at), (b, bt)) = (leaf("a"), leaf("b"));
            (
                vec![("y", concat(tape, &a, &b).unwrap())],
                vec![("da", at), ("db", bt)],
            )
        }
        "split" => {
            let (x, xt) = leaf("x");
            let (first, second) = split(tape, &x, call.size("at")).unwrap();
            (vec![("first", first), ("second", second)], vec![("dx", xt)])
        }
        "permute" => {
            let (x, xt) = leaf("x");
            let order: Vec<usize> = serde_json::from_value(call.params["order"].clone()).unwrap();
            let permutation = Permutation::new(call.device, &order).unwrap();
            (
                vec![(
                    "y",
                    join(tape, &[x], [order.len(), 0], Some(&permutation)).unwrap(),
                )],
                vec![("dx", xt)],
            )
        }
        "pixel_unshuffle" => (
            vec![(
                "y",
                unshuffle(tape, &constant("x"), call.size("d")).unwrap(),
            )],
            vec![],
        ),
        "pixel_shuffle" => (
            vec![("y", shuffle(tape, &constant("x"), call.size("d")).unwrap())],
            vec![],
        ),
        "coupling" => {
            let ((x, xt), (u, ut), (g, gt)) = (leaf("x"), leaf("u"), leaf("gamma"));
            let (y, log_det) =
                coupling(tape, &x, &u, &g, None, call.number("alpha") as f32).unwrap();
            (
                vec![("y", y), ("log_det", log_det)],
                vec![("dx", xt), ("du", ut), ("dgamma", gt)],
            )
        }
        "coupling_inverse" => {
            let [y, u, g] = ["y", "u", "gamma"].map(constant);
            let (x, log_det) =
                coupling_inverse(tape, &y, &u, &g, None, call.number("alpha") as f32).unwrap();
            (vec![("x", x), ("log_det", log_det)], vec![])
        }
        "resize_bilinear" | "resize_bicubic" => {
            let size: [usize; 2] = serde_json::from_value(call.params["size"].clone()).unwrap();
            let filter = if op == "resize_bilinear" {
                Filter::Bilinear
            } else {
                Filter::Bicubic
            };
            (
                vec![("y", resize(tape, &constant("x"), size, filter).unwrap())],
                vec![],
            )
        }
        "adam" => {
            let [learning_rate, weight_decay, beta1, beta2, epsilon] =
                ["lr", "weight_decay", "beta1", "beta2", "eps"].map(|key| call.number(key));
            let constants = Adam {
                learning_rate,
                beta1,
                beta2,
                epsilon,
                weight_decay,
            };
            let mut p = call.input("p");
            let zero = Tensor::full(call.device, p.shape(), 0.0).unwrap();
            let (mut m, mut v) = (zero.clone(), zero);
            let gradients = call.input("g").to_vec().unwrap();
            let mut after_each = Vec::new();
            for (i, g) in gradients.chunks(p.shape().len()).enumerate() {
                let g = Tensor::new(call.device, p.shape(), g.to_vec()).unwrap();
                adam(&mut p, &mut m, &mut v, &g, i as u32 + 1, &constants, None).unwrap();
                after_each.extend(p.to_vec().unwrap());
            }
            let p = Tensor::new(call.device, [after_each.len()], after_each).unwrap();
            let outputs = [("p_after", p), ("m_after", m), ("v_after", v)];
            (
                outputs.map(|(name, t)| (name, tape.constant(&t))).into(),
                vec![],
            )
        }
        other => panic!("{}: no such operator {other}", call.name),
    }
}

#[test]
fn operators_agree() {
    let reference = Reference::open("operators.safetensors");
    let cases = reference.metadata("cases");
    let mut compared = 0;
    let mut failed = Vec::new();
    for (device, tolerance, _) in devices() {
        for case in cases.as_array().unwrap() {
            let op = case["op"].as_str().unwrap();
            if op == "batch_norm_eval" {
                continue; // folded into the convolution: see the models
            }
            let name = case["name"].as_str().unwrap().to_string();
            let inputs = case["inputs"].as_array().unwrap();
            let call = Call {
                name,
                params: &case["params"],
                inputs,
                device: &device,
                tape: Tape::training(),
            };
            let (outputs, leaves) = run(op, &call);
            let mut compare = |what: &str, found: &Tensor| {
                let error = reference.distance(&format!("{}.{what}", call.name), found);
                compared += 1;
                if error.is_nan() || error > tolerance {
                    failed.push(format!(
                        "{} {what} on {}: {error:.2e}",
                        call.name,
                        device.name()
                    ));
                }
            };
            outputs
                .iter()
                .for_each(|(name, output)| compare(name, output.tensor()));
            let seeds: Vec<_> = (outputs.iter())
                .map(|(name, output)| (output, format!("grad_{name}")))
                .filter(|(_, grad)| call.has(grad))
                .map(|(output, grad)| (output, call.input(&grad)))
                .collect();
            if leaves.is_empty() {
                continue;
            }
            let Call { name, tape, .. } = call;
            let gradients = tape.backward_from(&seeds).unwrap();
            for (what, leaf) in leaves {
                let key = format!("{name}.{what}");
                if !reference.has(&key) {
                    continue; // a convolution without bias
                }
                let found = gradients
                    .of(&leaf)
                    .unwrap_or_else(|| panic!("{key}: no gradient"));
                let error = reference.distance(&key, found);
                compared += 1;
                if error.is_nan() || error > tolerance {
                    failed.push(format!("{key} on {}: {error:.2e}", device.name()));
                }
            }
        }
    }
    assert!(compared > 200, "only {compared} tensors were compared");
    assert!(
        failed.is_empty(),
        "{} of {compared} off:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
