// map = mask · mean_c (student - teacher)², the student's loss and the anomaly score per pixel.
// Layout: student and teacher [N,H,W,C], mask and map [N,H,W,1]. Grid: one workgroup per pixel.

struct Params {
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> student: array<real>;
@group(0) @binding(1) var<storage, read> teacher: array<real>;
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
        let i = pixel * params.channels + c;
        let off = f32(student[i]) - f32(teacher[i]);
        sum += off * off;
    }
    sums[lane] = sum;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            sums[lane] += sums[lane + width];
        }
    }
    if lane == 0u {
        map[pixel] = mask[pixel] * sums[0] / f32(params.channels);
    }
}

@group(0) @binding(3) var<storage, read> dmap: array<f32>;
@group(0) @binding(4) var<storage, read_write> dstudent: array<real>;

// dstudent = dmap · mask · 2/C · (student - teacher). Grid: one thread per element.
@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    let i = index(group, groups, lane);
    if i < params.pixels * params.channels {
        let pixel = i / params.channels;
        let weight = 2.0 * dmap[pixel] * mask[pixel] / f32(params.channels);
        dstudent[i] = real(weight * (f32(student[i]) - f32(teacher[i])));
    }
}
