// y[0] = weight · Σ x, and dx[i] = weight · dy[0].
// Grid: forward: one workgroup; backward: one thread per element.

struct Params {
    count: u32,
    weight: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    // Runs of 64 first: a long chain of additions would lose digits.
    var sum = 0.0;
    for (var start = lane; start < params.count; start += 64u * 64u) {
        var run = 0.0;
        for (var i = start; i < min(start + 64u * 64u, params.count); i += 64u) {
            run += x[i];
        }
        sum += run;
    }
    sums[lane] = sum;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            sums[lane] += sums[lane + width];
        }
    }
    if lane == 0u {
        y[0] = params.weight * sums[0];
    }
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < params.count {
        dx[i] = params.weight * dy[0];
    }
}
