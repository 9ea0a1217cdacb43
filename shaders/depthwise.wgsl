// y[n,oy,ox,c] = f(bias[c] + Σ x[n, oy·s+ky-top, ox·s+kx-left, c] · weight[ky,kx,c])
// Layout: x [N,H,W,C], weight [kh,kw,C], y [N,oH,oW,C]. Zero padding. f: see `activate`.
// Grid: main: a thread makes 4 columns × 4 channels, C being a multiple of 4; narrow: one element.

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

@group(0) @binding(0) var<storage, read> x4: array<real4>;
@group(0) @binding(1) var<storage, read> weight4: array<real4>;
@group(0) @binding(2) var<storage, read> bias4: array<real4>;
@group(0) @binding(3) var<storage, read_write> y4: array<real4>;

// Column ix of a row; left of the picture wraps to a huge number.
fn column(row: u32, ix: u32, c: u32) -> vec4f {
    let inside = ix < params.w;
    let value = vec4f(x4[(row + select(0u, ix, inside)) * (params.c / 4u) + c]);
    return select(vec4f(), value, inside);
}

fn tap(ky: u32, kx: u32, c: u32) -> vec4f {
    return vec4f(weight4[(ky * params.kw + kx) * (params.c / 4u) + c]);
}

alias Sums = array<vec4f, 4>;

fn add_tap(sums: ptr<function, Sums>, x0: vec4f, x1: vec4f, x2: vec4f, x3: vec4f, w: vec4f) {
    (*sums)[0] += x0 * w;
    (*sums)[1] += x1 * w;
    (*sums)[2] += x2 * w;
    (*sums)[3] += x3 * w;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let channels = p.c / 4u;
    let tiles = (p.out_w + 3u) / 4u;
    var i = index(group, groups, lane);
    let c = i % channels;
    i /= channels;
    let ox = i % tiles * 4u;
    i /= tiles;
    let oy = i % p.out_h;
    let n = i / p.out_h;
    if n >= p.n {
        return;
    }
    let bias = vec4f(bias4[c]);
    var sums = Sums(bias, bias, bias, bias);
    let s = p.stride;
    for (var ky = 0u; ky < p.kh; ky++) {
        let iy = oy * s + ky - p.top;
        if iy >= p.h {
            continue;
        }
        let row = (n * p.h + iy) * p.w;
        // Taps a stride apart see the same columns, shifted by one output: each is loaded once. Five
        // or three taps at a time, in a straight line: a shifting loop takes twice as long.
        for (var first = 0u; first < s; first++) {
            var kx = first;
            for (; kx + 4u * s < p.kw; kx += 5u * s) {
                let ix = ox * s + kx - p.left;
                let x0 = column(row, ix, c);
                let x1 = column(row, ix + s, c);
                let x2 = column(row, ix + 2u * s, c);
                let x3 = column(row, ix + 3u * s, c);
                let x4 = column(row, ix + 4u * s, c);
                let x5 = column(row, ix + 5u * s, c);
                let x6 = column(row, ix + 6u * s, c);
                let x7 = column(row, ix + 7u * s, c);
                add_tap(&sums, x0, x1, x2, x3, tap(ky, kx, c));
                add_tap(&sums, x1, x2, x3, x4, tap(ky, kx + s, c));
                add_tap(&sums, x2, x3, x4, x5, tap(ky, kx + 2u * s, c));
                add_tap(&sums, x3, x4, x5, x6, tap(ky, kx + 3u * s, c));
                add_tap(&sums, x4, x5, x6, x7, tap(ky, kx + 4u * s, c));
            }
            for (; kx + 2u * s < p.kw; kx += 3u * s) {
                let ix = ox * s + kx - p.left;
                let x0 = column(row, ix, c);
                let x1 = column(row, ix + s, c);
                let x2 = column(row, ix + 2u * s, c);
                let x3 = column(row, ix + 3u * s, c);
                let x4 = column(row, ix + 4u * s, c);
                let x5 = column(row, ix + 5u * s, c);
                add_tap(&sums, x0, x1, x2, x3, tap(ky, kx, c));
                add_tap(&sums, x1, x2, x3, x4, tap(ky, kx + s, c));
                add_tap(&sums, x2, x3, x4, x5, tap(ky, kx + 2u * s, c));
            }
            for (; kx < p.kw; kx += s) {
                let ix = ox * s + kx - p.left;
                let x0 = column(row, ix, c);
                let x1 = column(row, ix + s, c);
                let x2 = column(row, ix + 2u * s, c);
                let x3 = column(row, ix + 3u * s, c);
                add_tap(&sums, x0, x1, x2, x3, tap(ky, kx, c));
            }
        }
    }
    let out = ((n * p.out_h + oy) * p.out_w + ox) * channels + c;
    for (var j = 0u; j < min(4u, p.out_w - ox); j++) {
        y4[out + j * channels] = real4(activate4(p.activation, p.slope, sums[j]));
    }
}

@group(0) @binding(0) var<storage, read> x: array<real>;
@group(0) @binding(1) var<storage, read> weight: array<real>;
@group(0) @binding(2) var<storage, read> bias: array<real>;
@group(0) @binding(3) var<storage, read_write> y: array<real>;

@compute @workgroup_size(64)
fn narrow(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
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
    var sum = f32(bias[c]);
    for (var ky = 0u; ky < p.kh; ky++) {
        let iy = oy * p.stride + ky - p.top;
        if iy >= p.h {
            continue;
        }
        for (var kx = 0u; kx < p.kw; kx++) {
            let ix = ox * p.stride + kx - p.left;
            if ix < p.w {
                let at = ((n * p.h + iy) * p.w + ix) * p.c + c;
                sum += f32(x[at]) * f32(weight[(ky * p.kw + kx) * p.c + c]);
            }
        }
    }
    y[element] = real(activate(p.activation, p.slope, sum));
}
