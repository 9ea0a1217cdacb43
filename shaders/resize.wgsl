// Bilinear or bicubic (a = -0.75) interpolation; align_corners = false, indices clamped at the
// border, no antialiasing (torch.nn.functional.interpolate).
// Layout: x [N,H,W,C], y [N,oH,oW,C]. Grid: one thread per element of y.

struct Params {
    n: u32,
    h: u32,
    w: u32,
    c: u32,
    out_h: u32,
    out_w: u32,
    bicubic: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// The weights of the taps at floor - 1, floor, floor + 1, floor + 2 for a fraction.
fn weights(fraction: f32) -> vec4f {
    if params.bicubic == 0u {
        return vec4f(0.0, 1.0 - fraction, fraction, 0.0);
    }
    let t = vec4f(1.0 + fraction, fraction, 1.0 - fraction, 2.0 - fraction);
    const a = -0.75;
    let near = ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
    let far = ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a;
    return vec4f(far.x, near.y, near.z, far.w);
}

fn position(out: u32, size: u32, out_size: u32) -> f32 {
    let at = (f32(out) + 0.5) * f32(size) / f32(out_size) - 0.5;
    // PyTorch's bilinear starts at the first pixel's centre; bicubic does not.
    return select(max(at, 0.0), at, params.bicubic == 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let element = index(group, groups, lane);
    if element >= p.n * p.out_h * p.out_w * p.c {
        return;
    }
    var i = element;
    let c = i % p.c;
    i /= p.c;
    let at_x = position(i % p.out_w, p.w, p.out_w);
    i /= p.out_w;
    let at_y = position(i % p.out_h, p.h, p.out_h);
    let n = i / p.out_h;
    let wx = weights(at_x - floor(at_x));
    let wy = weights(at_y - floor(at_y));
    // Bilinear looks at the middle two taps and, where a pixel becomes one, at no neighbour: a weight of 0 times
    // infinity is NaN.
    let bicubic = p.bicubic == 1u;
    let taps = select(vec2i(1, 3), vec2i(0, 4), bicubic);
    let step_x = select(0, 1, bicubic || p.w != p.out_w);
    let step_y = select(0, 1, bicubic || p.h != p.out_h);
    var sum = 0.0;
    for (var j = taps.x; j < taps.y; j++) {
        let iy = u32(clamp(i32(floor(at_y)) + (j - 1) * step_y, 0, i32(p.h) - 1));
        var row = 0.0;
        for (var k = taps.x; k < taps.y; k++) {
            let ix = u32(clamp(i32(floor(at_x)) + (k - 1) * step_x, 0, i32(p.w) - 1));
            row += wx[k] * x[((n * p.h + iy) * p.w + ix) * p.c + c];
        }
        sum += wy[j] * row;
    }
    y[element] = sum;
}
