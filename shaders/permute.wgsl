// The channels of a and b in an order, as two tensors, each followed by the condition:
//   z = a[..first_in] ++ b;  z' = z[order];  y1 = z'[..first_out] ++ condition, y2 = z'[first_out..] ++ condition
// z has C channels; what a and b have beyond is not looked at. Without an order z' is z; without a
// condition zeros follow.
// Layout: a [pixels,a_width], b [pixels,b_width], order [C], integers kept as f32, condition
// [pixels,tail]. Grid: one thread per element of y1 and y2.

struct Params {
    pixels: u32,
    channels: u32,
    a_width: u32,
    b_width: u32,
    first_in: u32,
    first_out: u32,
    tail: u32,
    ordered: u32,
    conditioned: u32,
}

@group(0) @binding(0) var<storage, read> a: array<real>;
@group(0) @binding(1) var<storage, read> b: array<real>;
@group(0) @binding(2) var<storage, read> order: array<f32>;
@group(0) @binding(3) var<storage, read> condition: array<real>;
@group(0) @binding(4) var<storage, read_write> y1: array<real>;
@group(0) @binding(5) var<storage, read_write> y2: array<real>;

// Channel `c` of a half that has `count` of z', the first being `start`.
fn value(pixel: u32, c: u32, start: u32, count: u32) -> real {
    let p = params;
    if c >= count {
        if p.conditioned == 0u {
            return real(0.0);
        }
        return condition[pixel * p.tail + c - count];
    }
    var source = start + c;
    if p.ordered == 1u {
        source = u32(order[source]);
    }
    if source < p.first_in {
        return a[pixel * p.a_width + source];
    }
    return b[pixel * p.b_width + source - p.first_in];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let i = index(group, groups, lane);
    let second_out = p.channels - p.first_out;
    let width1 = p.first_out + p.tail;
    let width2 = second_out + p.tail;
    let pixel = i / (width1 + width2);
    if pixel >= p.pixels {
        return;
    }
    let c = i % (width1 + width2);
    if c < width1 {
        y1[pixel * width1 + c] = value(pixel, c, 0u, p.first_out);
    } else {
        y2[pixel * width2 + c - width1] = value(pixel, c - width1, p.first_out, second_out);
    }
}
