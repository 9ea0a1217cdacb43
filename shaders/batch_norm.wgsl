// Training: mean and variance over N·H·W per channel, then
//   y = (x - mean)·inv_std·weight + bias,  inv_std = 1/√(var + ε)
//   running = (1 - momentum)·running + momentum·(mean | unbiased var)
// Layout: x, y [rows,C]; weight, bias, running [C]; stats [2C]: means, then inv_std.
// Statistics, running ones too, and dweight and dbias are f32.
// Grid: statistics and backward_weight: one workgroup per 16 channels, whose neighbours it reads together,
// 16 rows at a time; the rest: see `Pass::sweep`.

struct Params {
    rows: u32,
    channels: u32,
    epsilon: f32,
    momentum: f32,
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read> old_mean: array<f32>;
@group(0) @binding(2) var<storage, read> old_var: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> new_mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> new_var: array<f32>;

// Channels of a workgroup, and rows that it reads at a time.
const SIDE = 16u;
const THREADS = SIDE * SIDE;

var<workgroup> sums: array<f32, THREADS>;

// Of this thread's channel.
fn column_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    sums[lane] = value;
    for (var width = THREADS / 2u; width >= SIDE; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            sums[lane] += sums[lane + width];
        }
    }
    workgroupBarrier();
    return sums[lane % SIDE];
}

@compute @workgroup_size(THREADS)
fn statistics(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) lane: u32) {
    let mine = (group.y * groups.x + group.x) * SIDE + lane % SIDE;
    let c = min(mine, params.channels - 1u);
    let rows = f32(params.rows);
    var sum = 0.0;
    for (var i = lane / SIDE; i < params.rows; i += SIDE) {
        sum += f32(x[i * params.channels + c]);
    }
    let mean = column_sum(lane, sum) / rows;
    // A second pass over the data: E[x²] - mean² would cancel.
    var square = 0.0;
    for (var i = lane / SIDE; i < params.rows; i += SIDE) {
        let off = f32(x[i * params.channels + c]) - mean;
        square += off * off;
    }
    let total = column_sum(lane, square);
    if lane < SIDE && mine < params.channels {
        stats[c] = mean;
        stats[params.channels + c] = inverseSqrt(total / rows + params.epsilon);
        new_mean[c] = mix(old_mean[c], mean, params.momentum);
        new_var[c] = mix(old_var[c], total / max(rows - 1.0, 1.0), params.momentum);
    }
}

@group(0) @binding(1) var<storage, read> known: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<real>;
@group(0) @binding(3) var<storage, read> bias: array<real>;
@group(0) @binding(4) var<storage, read_write> y: array<real>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let count = params.rows * params.channels;
    for (var i = index(group, groups, lane); i < count; i += threads(groups)) {
        let c = i % params.channels;
        let normalised = (f32(x[i]) - known[c]) * known[params.channels + c];
        y[i] = real(normalised * f32(weight[c]) + f32(bias[c]));
    }
}

@group(0) @binding(2) var<storage, read> dy: array<real>;
@group(0) @binding(3) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(4) var<storage, read_write> dbias: array<f32>;

// dweight = Σ dy·x̂, dbias = Σ dy.
@compute @workgroup_size(THREADS)
fn backward_weight(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                   @builtin(local_invocation_index) lane: u32) {
    let mine = (group.y * groups.x + group.x) * SIDE + lane % SIDE;
    let c = min(mine, params.channels - 1u);
    var products = 0.0;
    var plain = 0.0;
    for (var i = lane / SIDE; i < params.rows; i += SIDE) {
        let at = i * params.channels + c;
        products += f32(dy[at]) * (f32(x[at]) - known[c]) * known[params.channels + c];
        plain += f32(dy[at]);
    }
    let dw = column_sum(lane, products);
    let db = column_sum(lane, plain);
    if lane < SIDE && mine < params.channels {
        dweight[c] = dw;
        dbias[c] = db;
    }
}

@group(0) @binding(3) var<storage, read> scale: array<real>;
@group(0) @binding(4) var<storage, read> sum_products: array<f32>;
@group(0) @binding(5) var<storage, read> sum_plain: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<real>;

// dx = weight·inv_std·(dy - (dbias + x̂·dweight)/rows). Binding 3 holds the weight here.
@compute @workgroup_size(64)
fn backward_input(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                  @builtin(local_invocation_index) lane: u32) {
    let count = params.rows * params.channels;
    for (var i = index(group, groups, lane); i < count; i += threads(groups)) {
        let c = i % params.channels;
        let inv_std = known[params.channels + c];
        let normalised = (f32(x[i]) - known[c]) * inv_std;
        let shared_part = (sum_plain[c] + normalised * sum_products[c]) / f32(params.rows);
        dx[i] = real(f32(scale[c]) * inv_std * (f32(dy[i]) - shared_part));
    }
}
