// map = mask · (‖z‖²/2 - log_det), the teacher's loss per pixel.
// Layout: z [N,H,W,C], log_det, mask and map [N,H,W,1]. Grid: one workgroup per pixel.

struct Params {
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> z: array<real>;
@group(0) @binding(1) var<storage, read> log_det: array<f32>;
@group(0) @binding(2) var<storage, read> mask: array<f32>;
@group(0) @binding(3) var<storage, read_write> map: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= params.pixels {
        return;
    }
    var sum = 0.0;
    for (var c = lane; c < params.channels; c += 64u) {
        let value = f32(z[pixel * params.channels + c]);
        sum += value * value;
    }
    sums[lane] = sum;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            sums[lane] += sums[lane + width];
        }
    }
    if lane == 0u {
        map[pixel] = mask[pixel] * (0.5 * sums[0] - log_det[pixel]);
    }
}

@group(0) @binding(1) var<storage, read> dmap: array<f32>;
@group(0) @binding(3) var<storage, read_write> dz: array<real>;
@group(0) @binding(4) var<storage, read_write> dlog_det: array<f32>;

// dz = dmap·mask·z, dlog_det = -dmap·mask.
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= params.pixels {
        return;
    }
    let g = dmap[pixel] * mask[pixel];
    for (var c = lane; c < params.channels; c += 64u) {
        dz[pixel * params.channels + c] = real(g * f32(z[pixel * params.channels + c]));
    }
    if lane == 0u {
        dlog_det[pixel] = -g;
    }
}
