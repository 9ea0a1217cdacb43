// Affine coupling, with s = γ·u[..C], t = γ·u[C..], ℓ = α·0.636·atan(s/α):
//   forward: y = clamp(x·exp ℓ + t, ±1e6), log_det = so_far + Σ_c ℓ
//   inverse: x = (y - t)·exp(-ℓ),          log_det = so_far - Σ_c ℓ
// What x has beyond C channels passes through. `summed` is the forward direction with u = bias + Σ of
// the slices of a convolution's sum.
// Layout: x, y [N,H,W,width], u [N,H,W,2C], log_det and so_far [N,H,W,1], γ [1], bias [2C],
// partial [slices,N,H,W,⌈2C/4⌉·4] in f32.
// Grid: one workgroup per pixel; its lanes share the channels.

struct Params {
    pixels: u32,
    channels: u32,
    width: u32,
    accumulate: u32,
    slices: u32,
    alpha: f32,
}

const LIMIT = min(1e6, REAL_MAX);

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read> u: array<real>;
@group(0) @binding(2) var<storage, read> gamma: array<real>;
@group(0) @binding(3) var<storage, read> so_far: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<real>;
@group(0) @binding(5) var<storage, read_write> log_det: array<f32>;

var<workgroup> shared_sums: array<f32, 64>;

fn workgroup_sum(lane: u32, value: f32) -> f32 {
    shared_sums[lane] = value;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            shared_sums[lane] += shared_sums[lane + width];
        }
    }
    workgroupBarrier();
    return shared_sums[0];
}

// The built-in atan may be off by 4096 ulp (Vulkan specification, "Precision and Operation of
// SPIR-V Instructions"); this is Cephes' atanf, within 2 ulp.
fn arctangent(x: f32) -> f32 {
    let t = abs(x);
    var base = 0.0;
    var r = t;
    if t > 2.4142136 {
        base = 1.5707964;
        r = -1.0 / t;
    } else if t > 0.41421357 {
        base = 0.7853982;
        r = (t - 1.0) / (t + 1.0);
    }
    let z = r * r;
    let p = ((8.0537446e-2 * z - 1.3877685e-1) * z + 1.9977711e-1) * z - 3.3332949e-1;
    return sign(x) * (base + (p * z * r + r));
}

fn log_scale(s: f32) -> f32 {
    return params.alpha * 0.636 * arctangent(s / params.alpha);
}

// The forward direction for one element; its share of the log-determinant.
fn couple(at: u32, us: f32, ut: f32) -> f32 {
    let l = log_scale(f32(gamma[0]) * us);
    let value = f32(x[at]) * exp(l) + f32(gamma[0]) * ut;
    // Not `clamp`, of which NaN becomes a limit.
    y[at] = real(select(select(value, LIMIT, value > LIMIT), -LIMIT, value < -LIMIT));
    return l;
}

fn pass_through(pixel: u32, lane: u32) {
    for (var i = params.channels + lane; i < params.width; i += 64u) {
        y[pixel * params.width + i] = x[pixel * params.width + i];
    }
}

fn finish(pixel: u32, lane: u32, sum: f32) {
    let total = workgroup_sum(lane, sum);
    if lane == 0u {
        var before = 0.0;
        if params.accumulate == 1u {
            before = so_far[pixel];
        }
        log_det[pixel] = before + total;
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= params.pixels {
        return;
    }
    let c = params.channels;
    var sum = 0.0;
    for (var i = lane; i < c; i += 64u) {
        let at = 2u * pixel * c + i;
        sum += couple(pixel * params.width + i, f32(u[at]), f32(u[at + c]));
    }
    pass_through(pixel, lane);
    finish(pixel, lane, sum);
}

@group(0) @binding(1) var<storage, read> partial_u: array<f32>;
@group(0) @binding(6) var<storage, read> bias: array<real>;

fn summed_u(pixel: u32, i: u32) -> f32 {
    let across = (2u * params.channels + 3u) / 4u * 4u;
    var sum = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        sum += partial_u[(slice * params.pixels + pixel) * across + i];
    }
    return sum + f32(bias[i]);
}

@compute @workgroup_size(64)
fn summed(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= params.pixels {
        return;
    }
    let c = params.channels;
    var sum = 0.0;
    for (var i = lane; i < c; i += 64u) {
        sum += couple(pixel * params.width + i, summed_u(pixel, i), summed_u(pixel, i + c));
    }
    pass_through(pixel, lane);
    finish(pixel, lane, sum);
}

// Here x holds what is to be inverted, and y receives the result.
@compute @workgroup_size(64)
fn inverse(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= params.pixels {
        return;
    }
    let c = params.channels;
    var sum = 0.0;
    for (var i = lane; i < c; i += 64u) {
        let l = log_scale(f32(gamma[0]) * f32(u[2u * pixel * c + i]));
        let t = f32(gamma[0]) * f32(u[2u * pixel * c + c + i]);
        let at = pixel * params.width + i;
        y[at] = real((f32(x[at]) - t) * exp(-l));
        sum -= l;
    }
    pass_through(pixel, lane);
    finish(pixel, lane, sum);
}

@group(0) @binding(3) var<storage, read> dy: array<real>;
@group(0) @binding(4) var<storage, read> dlog_det: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<real>;
@group(0) @binding(6) var<storage, read_write> du: array<real>;
@group(0) @binding(7) var<storage, read_write> partial: array<f32>;

// Gradients of the forward direction; `partial` gets each pixel's share of dγ.
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= params.pixels {
        return;
    }
    let c = params.channels;
    var sum = 0.0;
    for (var i = lane; i < c; i += 64u) {
        let us = f32(u[2u * pixel * c + i]);
        let ut = f32(u[2u * pixel * c + c + i]);
        let s = f32(gamma[0]) * us;
        let e = exp(log_scale(s));
        let at = pixel * params.width + i;
        let v = f32(x[at]);
        let dt = select(0.0, f32(dy[at]), abs(v * e + f32(gamma[0]) * ut) <= LIMIT);
        let ratio = s / params.alpha;
        let ds = (dt * v * e + dlog_det[pixel]) * 0.636 / (1.0 + ratio * ratio);
        dx[at] = real(dt * e);
        du[2u * pixel * c + i] = real(f32(gamma[0]) * ds);
        du[2u * pixel * c + c + i] = real(f32(gamma[0]) * dt);
        sum += ds * us + dt * ut;
    }
    for (var i = c + lane; i < params.width; i += 64u) {
        dx[pixel * params.width + i] = dy[pixel * params.width + i];
    }
    let total = workgroup_sum(lane, sum);
    if lane == 0u {
        partial[pixel] = total;
    }
}

@group(0) @binding(0) var<storage, read> shares: array<f32>;
@group(0) @binding(1) var<storage, read_write> dgamma: array<f32>;

// dγ from the pixels' shares. Grid: one workgroup.
@compute @workgroup_size(64)
fn backward_gamma(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < params.pixels; i += 64u) {
        sum += shares[i];
    }
    let total = workgroup_sum(lane, sum);
    if lane == 0u {
        dgamma[0] = total;
    }
}
