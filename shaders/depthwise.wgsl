// y[n,oy,ox,c] = f(bias[c] + Σ x[n, oy·s+ky-top, ox·s+kx-left, c] · weight[ky,kx,c])
// Layout: x [N,H,W,C], weight [kh,kw,C], y [N,oH,oW,C]. Zero padding. f: see `activate`.
// Grid: one thread per output element.

struct Params {
    n: u32,
    h: u32,
    w: u32,
    c: u32,
    out_h: u32,
    out_w: u32,
    kh: u32,
    kw: u32,
    stride: u32,
    top: u32,
    left: u32,
    activation: u32,
    slope: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
    let ox = i % p.out_w;
    i /= p.out_w;
    let oy = i % p.out_h;
    let n = i / p.out_h;
    var sum = bias[c];
    for (var ky = 0u; ky < p.kh; ky++) {
        // Above or left of the picture wraps to a huge number.
        let iy = oy * p.stride + ky - p.top;
        if iy >= p.h {
            continue;
        }
        for (var kx = 0u; kx < p.kw; kx++) {
            let ix = ox * p.stride + kx - p.left;
            if ix < p.w {
                sum += x[((n * p.h + iy) * p.w + ix) * p.c + c] * weight[(ky * p.kw + kx) * p.c + c];
            }
        }
    }
    y[element] = activate(p.activation, p.slope, sum);
}
