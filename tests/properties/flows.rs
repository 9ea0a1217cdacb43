//! Inverse, log-determinant and gradients of random flows.

use super::flow::{Built, Flow, Tally, flows};
use super::{CPU, hold, relative, rms, tensor, values};
use astray::models::permutation::permutation;
use astray::nn::random::Random;
use astray::tape::Tape;
use astray::tensor::Tensor;
use proptest::prelude::*;
use std::cell::Cell;

#[test]
fn flows_are_undone_by_their_inverse() {
    let tally = Tally::default();
    hold(1000, flows(2..13, 6), |flow| {
        if !tally.checks(&flow) {
            return Ok(());
        }
        let built = flow.build();
        let (z, log_det) = built.run(&built.x, false);
        let (x, inverse) = built.run(&z, true);
        let error = relative(&values(&x), &values(&built.x));
        prop_assert!(error <= 1e-4, "x is off by {error:.1e}");
        for (forward, inverse) in log_det.iter().zip(&inverse) {
            let off = (forward + inverse).abs();
            prop_assert!(
                off <= 1e-4 * forward.abs().max(1.0),
                "log-determinants {forward} and {inverse}"
            );
        }
        Ok(())
    });
    tally.conclude("inverse", 700);
}

/// log |det| of a square matrix, by elimination with partial pivoting.
fn log_abs_det(mut rows: Vec<Vec<f64>>) -> f64 {
    let mut log = 0.0;
    for k in 0..rows.len() {
        let size = |rows: &[Vec<f64>], i: usize| rows[i][k].abs();
        let pivot = (k..rows.len())
            .max_by(|&a, &b| size(&rows, a).total_cmp(&size(&rows, b)))
            .unwrap();
        rows.swap(k, pivot);
        let (above, below) = rows.split_at_mut(k + 1);
        let pivot = &above[k];
        log += pivot[k].abs().ln();
        for row in below {
            let factor = row[k] / pivot[k];
            for (value, p) in row[k..].iter_mut().zip(&pivot[k..]) {
                *value -= factor * p;
            }
        }
    }
    log
}

/// Row i holds ∂z_i/∂x.
fn jacobian(built: &Built) -> Vec<Vec<f64>> {
    let row = |i: usize| {
        let tape = Tape::training();
        let condition = built.condition.as_ref().map(|c| tape.constant(c));
        let x = tape.leaf(&built.x);
        let (z, _) = built.net.forward(&tape, &x, condition.as_ref()).unwrap();
        let mut one = vec![0.0; built.x.shape().len()];
        one[i] = 1.0;
        let one = Tensor::new(CPU, built.x.shape(), one).unwrap();
        let gradients = tape.backward_from(&[(&z, one)]).unwrap();
        gradients.of(&built.x).map_or(Vec::new(), values)
    };
    (0..built.x.shape().len()).map(row).collect()
}

#[test]
fn log_determinants_are_those_of_the_dense_jacobian() {
    let worst = Cell::new(0.0_f64);
    let largest = Cell::new(0.0_f64);
    let tally = Tally::default();
    hold(1000, flows(2..7, 3), |flow| {
        if !tally.checks(&flow) {
            return Ok(());
        }
        let built = flow.build();
        let (_, log_det) = built.run(&built.x, false);
        let found: f64 = log_det.iter().sum();
        let expected = log_abs_det(jacobian(&built));
        let off = (found - expected).abs() / expected.abs().max(1.0);
        worst.set(worst.get().max(off));
        largest.set(largest.get().max(expected.abs()));
        prop_assert!(off <= 1e-3, "{found}, but the Jacobian's is {expected}");
        Ok(())
    });
    println!(
        "off by {:.1e} at worst, log-determinants up to {:.1}",
        worst.get(),
        largest.get()
    );
    tally.conclude("Jacobian", 700);
    assert!(largest.get() > 10.0, "no flow changed the volume much");
}

impl Built {
    /// The input and every parameter, by name.
    fn places(&mut self) -> Vec<(String, &mut Tensor)> {
        let mut list = vec![("x".to_string(), &mut self.x)];
        list.extend(self.net.parameters());
        list
    }

    /// ⟨z, weights⟩ + ⟨log-determinants, weights⟩.
    fn weighted(&self, weights: &[Tensor; 2]) -> f64 {
        let (z, log_det) = self.run(&self.x, false);
        let dot =
            |a: Vec<f64>, b: &Tensor| -> f64 { a.iter().zip(values(b)).map(|(a, b)| a * b).sum() };
        dot(values(&z), &weights[0]) + dot(log_det, &weights[1])
    }

    /// The gradients of [`Built::weighted`], in the order of [`Built::places`].
    fn gradients(&mut self, weights: &[Tensor; 2]) -> Vec<Vec<f64>> {
        let tape = Tape::training();
        let condition = self.condition.as_ref().map(|c| tape.constant(c));
        let x = tape.leaf(&self.x);
        let (z, log_det) = self.net.forward(&tape, &x, condition.as_ref()).unwrap();
        let [of_z, of_log_det] = weights.clone();
        let gradients = tape
            .backward_from(&[(&z, of_z), (&log_det, of_log_det)])
            .unwrap();
        let places = self.places().into_iter();
        places
            .map(|(_, place)| values(gradients.of(place).unwrap()))
            .collect()
    }

    /// Moves every place along its direction.
    fn moved(mut self, directions: &[Vec<f64>], step: f64) -> Self {
        for ((_, place), direction) in self.places().into_iter().zip(directions) {
            let data = values(place).into_iter().zip(direction);
            let data = data.map(|(value, d)| (value + step * d) as f32).collect();
            *place = Tensor::new(CPU, place.shape(), data).unwrap();
        }
        self
    }
}

/// Along one random direction through the input and every parameter at once.
#[test]
fn gradients_are_central_differences() {
    const STEP: f64 = 2.5e-4;
    let (tally, worst, straight) = (Tally::default(), Cell::new(0.0_f64), Cell::new(0));
    hold(1000, flows(2..7, 3), |flow| {
        // A whitening is no parameter, and its part of the log-determinant only costs the differences digits; the
        // gradient through it is in the Jacobian above.
        let flow = Flow {
            whitened: false,
            ..flow
        };
        if !tally.checks(&flow) {
            return Ok(());
        }
        let mut built = flow.build();
        let mut random = Random::new(flow.seed);
        let [n, h, w] = flow.shape;
        let weights = [flow.config.channels, 1].map(|c| tensor([n, h, w, c], &mut random));
        let mut direction = |place: &Tensor| -> Vec<f64> {
            let size = rms(&values(place));
            (0..place.shape().len())
                .map(|_| size * random.normal())
                .collect()
        };
        let places = built.places().into_iter();
        let directions: Vec<Vec<f64>> = places.map(|(_, place)| direction(place)).collect();
        let gradients = built.gradients(&weights);
        let products = gradients.iter().flatten().zip(directions.iter().flatten());
        let products: Vec<f64> = products.map(|(g, d)| g * d).collect();
        let size = products.iter().map(|p| p * p).sum::<f64>().sqrt();

        let at = |step: f64| flow.build().moved(&directions, step).weighted(&weights);
        let (above, here, below) = (at(STEP), at(0.0), at(-STEP));
        let expected = (above - below) / (2.0 * STEP);
        let off = (products.iter().sum::<f64>() - expected).abs() / size;
        // Where the step crosses a kink of a ReLU, the slopes on both sides differ, and the gradient
        // is one of them.
        let bend = (above - 2.0 * here + below).abs() / (2.0 * STEP) / size;
        worst.set(worst.get().max(off - bend));
        straight.set(straight.get() + usize::from(bend <= 5e-3));
        prop_assert!(off <= 3e-3 + bend, "off by {off:.1e}, bent by {bend:.1e}");
        Ok(())
    });
    println!("off by {:.1e} at worst beyond the bend", worst.get());
    tally.conclude("gradients", 700);
    let straight = straight.get();
    assert!(
        straight >= 700,
        "only {straight} flows had no kink within the step"
    );
}

#[test]
fn a_flow_with_zero_gamma_is_a_permutation() {
    hold(100, flows(2..13, 4), |flow| {
        let plain = Flow {
            gamma: 0.0,
            whitened: false,
            ..flow
        };
        let built = plain.build();
        let config = built.net.config();
        let mut order: Vec<usize> = (0..config.channels).collect();
        for block in 0..config.kernels.len() {
            let step = permutation(block as u32, config.channels);
            order = step.iter().map(|&from| order[from]).collect();
        }
        let (z, log_det) = built.run(&built.x, false);
        prop_assert!(log_det.iter().all(|&l| l == 0.0), "{log_det:?}");
        let (x, z) = (values(&built.x), values(&z));
        for (x, z) in x.chunks(order.len()).zip(z.chunks(order.len())) {
            let expected: Vec<f64> = order.iter().map(|&from| x[from]).collect();
            prop_assert_eq!(z, expected);
        }
        Ok(())
    });
}
