// main: y = f(bias + Σ_slice partial[slice]) (+ residual), slices in order, so always the same bits.
// columns: sums[slice] = Σ of the slice's rows of x.
// Layout: partial and sums [slices, rows, Co] in f32, y and residual [rows, Co], bias [Co], Co in groups
// of 4.
// Grid: a thread per group of the result.

struct Params {
    slices: u32,
    rows: u32,
    groups: u32,
    bias: u32,
    activation: u32,
    slope: f32,
    residual: u32,
}

@group(0) @binding(0) var<storage, read> partial: array<vec4f>;
@group(0) @binding(1) var<storage, read> bias: array<real4>;
@group(0) @binding(2) var<storage, read> residual: array<real4>;
@group(0) @binding(3) var<storage, read_write> y: array<real4>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let count = params.rows * params.groups;
    if i >= count {
        return;
    }
    var sum = vec4f();
    for (var slice = 0u; slice < params.slices; slice++) {
        sum += partial[slice * count + i];
    }
    if params.bias == 1u {
        sum += vec4f(bias[i % params.groups]);
    }
    sum = activate4(params.activation, params.slope, sum);
    if params.residual == 1u {
        sum += vec4f(residual[i]);
    }
    y[i] = real4(sum);
}

@group(0) @binding(0) var<storage, read> x: array<real4>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4f>;

@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    let p = params;
    if i >= p.slices * p.groups {
        return;
    }
    let slice = i / p.groups;
    let each = (p.rows + p.slices - 1u) / p.slices;
    var sum = vec4f();
    for (var row = slice * each; row < min((slice + 1u) * each, p.rows); row++) {
        sum += vec4f(x[row * p.groups + i % p.groups]);
    }
    sums[i] = sum;
}
