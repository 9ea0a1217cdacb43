// y[n, c] = mean over the pixels of x[n, pixel, c].
// Layout: x [N,pixels,C], y [N,C].
// Grid: a workgroup makes 16 channels of a sample: 4 lanes of 4 channels × 16 lanes that share the
// pixels; narrow, where C is no multiple of 4: one workgroup per sample and channel.

struct Params {
    n: u32,
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> x4: array<real4>;
@group(0) @binding(1) var<storage, read_write> y4: array<real4>;

var<workgroup> sums4: array<vec4f, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let channels = params.channels / 4u;
    let tiles = (channels + 3u) / 4u;
    let tile = group.y * groups.x + group.x;
    let n = tile / tiles;
    if n >= params.n {
        return;
    }
    let c = tile % tiles * 4u + lane % 4u;
    var sum = vec4f();
    if c < channels {
        let step = 16u * channels;
        let end = (n + 1u) * params.pixels * channels;
        var i = (n * params.pixels + lane / 4u) * channels + c;
        // Four loads under way: one after the other, each would be waited for.
        for (; i + 3u * step < end; i += 4u * step) {
            sum += (vec4f(x4[i]) + vec4f(x4[i + step])) + (vec4f(x4[i + 2u * step]) + vec4f(x4[i + 3u * step]));
        }
        for (; i < end; i += step) {
            sum += vec4f(x4[i]);
        }
    }
    sums4[lane] = sum;
    for (var width = 32u; width >= 4u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            sums4[lane] += sums4[lane + width];
        }
    }
    if lane < 4u && c < channels {
        y4[n * channels + c] = real4(sums4[lane] / f32(params.pixels));
    }
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read_write> y: array<real>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn narrow(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let output = group.y * groups.x + group.x;
    if output >= params.n * params.channels {
        return;
    }
    let start = output / params.channels * params.pixels * params.channels + output % params.channels;
    var sum = 0.0;
    for (var pixel = lane; pixel < params.pixels; pixel += 64u) {
        sum += f32(x[start + pixel * params.channels]);
    }
    sums[lane] = sum;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            sums[lane] += sums[lane + width];
        }
    }
    if lane == 0u {
        y[output] = real(sums[0] / f32(params.pixels));
    }
}
