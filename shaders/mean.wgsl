// y[n, c] = mean over the pixels of x[n, pixel, c].
// Layout: x [N,pixels,C], y [N,C]. Grid: one workgroup per sample and channel.

struct Params {
    n: u32,
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let output = group.y * groups.x + group.x;
    if output >= params.n * params.channels {
        return;
    }
    let start = output / params.channels * params.pixels * params.channels + output % params.channels;
    var sum = 0.0;
    for (var pixel = lane; pixel < params.pixels; pixel += 64u) {
        sum += x[start + pixel * params.channels];
    }
    sums[lane] = sum;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            sums[lane] += sums[lane + width];
        }
    }
    if lane == 0u {
        y[output] = sums[0] / f32(params.pixels);
    }
}
