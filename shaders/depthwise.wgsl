// y[n,oy,ox,c] = f(bias[c] + Σ x[n, oy·s+ky-top, ox·s+kx-left, c] · weight[ky,kx,c])
// Layout: x [N,H,W,C], weight [kh,kw,C], y [N,oH,oW,C]. Zero padding. f: see `activate`.
// Grid: main: a thread makes 4 columns × 4 channels, C being a multiple of 4; narrow: one element;
// direct, for software adapters: LANES threads make one channel of as many tiles of 4 rows × 8 columns.

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
}

// f: a software driver would compute all that it could be.
override ACTIVATION: u32 = 0u;
override SLOPE: f32 = 0.0;

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
    var sums = array(bias, bias, bias, bias);
    let s = p.stride;
    for (var ky = 0u; ky < p.kh; ky++) {
        let iy = oy * s + ky - p.top;
        if iy >= p.h {
            continue;
        }
        let row = (n * p.h + iy) * p.w;
        // Taps a stride apart see the same columns, shifted by one output: each is loaded once.
        for (var first = 0u; first < min(s, p.kw); first++) {
            var ix = ox * s + first - p.left;
            var x0 = column(row, ix, c);
            var x1 = column(row, ix + s, c);
            var x2 = column(row, ix + 2u * s, c);
            ix += 3u * s;
            for (var kx = first; kx < p.kw; kx += s) {
                let x3 = column(row, ix, c);
                let w = tap(ky, kx, c);
                sums[0] += x0 * w;
                sums[1] += x1 * w;
                sums[2] += x2 * w;
                sums[3] += x3 * w;
                x0 = x1;
                x1 = x2;
                x2 = x3;
                ix += s;
            }
        }
    }
    let out = ((n * p.out_h + oy) * p.out_w + ox) * channels + c;
    for (var j = 0u; j < min(4u, p.out_w - ox); j++) {
        y4[out + j * channels] = real4(activate4(ACTIVATION, SLOPE, sums[j]));
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
    y[element] = real(activate(ACTIVATION, SLOPE, sum));
}

override LANES: u32 = 8u;

// sum + five taps of four neighbouring outputs; `left` are the first four columns, `right` the next.
fn five(sum: vec4f, left: vec4f, right: vec4f, w: array<f32, 5>) -> vec4f {
    return sum + left * w[0] + vec4f(left.yzw, right.x) * w[1] + vec4f(left.zw, right.xy) * w[2]
        + vec4f(left.w, right.xyz) * w[3] + right * w[4];
}

// An element, or zero.
fn value(at: u32, inside: bool) -> f32 {
    return select(0.0, f32(x[select(0u, at, inside)]), inside);
}

// Columns ix, ix + s, …
fn columns(row: u32, ix: u32, c: u32, inside: bool) -> vec4f {
    let s = params.stride;
    let at = vec4u(ix, ix + s, ix + 2u * s, ix + 3u * s);
    let within = at < vec4u(params.w);
    let element = (row + at) * params.c + c;
    return vec4f(value(element.x, inside && within.x), value(element.y, inside && within.y),
        value(element.z, inside && within.z), value(element.w, inside && within.w));
}

// Taps kx, kx + s, … of row ky.
fn taps(ky: u32, kx: u32, c: u32) -> array<f32, 5> {
    var w: array<f32, 5>;
    for (var i = 0u; i < 5u; i++) {
        let k = kx + i * params.stride;
        let inside = ky < params.kh && k < params.kw;
        w[i] = select(0.0, f32(weight[select(0u, (ky * params.kw + k) * params.c + c, inside)]), inside);
    }
    return w;
}

fn store(at: u32, ox: u32, sum: vec4f) {
    let f = activate4(ACTIVATION, SLOPE, sum);
    let c = params.c;
    if ox < params.out_w { y[at] = real(f.x); }
    if ox + 1u < params.out_w { y[at + c] = real(f.y); }
    if ox + 2u < params.out_w { y[at + 2u * c] = real(f.z); }
    if ox + 3u < params.out_w { y[at + 3u * c] = real(f.w); }
}

// A software driver loads what lanes do not share for one lane after the other: so they share their channel
// and its weights, and an input serves many outputs.
@compute @workgroup_size(LANES)
fn direct(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let block = group.y * groups.x + group.x;
    let c = block % p.c;
    let wide = (p.out_w + 7u) / 8u;
    let high = (p.out_h + 3u) / 4u;
    let tile = block / p.c * LANES + lane;
    let ox = tile % wide * 8u;
    let oy = tile / wide % high * 4u;
    let n = tile / wide / high;
    if n >= p.n {
        return;
    }
    let s = p.stride;
    var a0 = vec4f(f32(bias[c]));
    var a1 = a0;
    var b0 = a0;
    var b1 = a0;
    var c0 = a0;
    var c1 = a0;
    var d0 = a0;
    var d1 = a0;
    // Taps a stride apart belong together: the weights of one output row are next those of the row below.
    for (var phase = 0u; phase < s * s; phase++) {
        for (var kx = phase % s; kx < p.kw; kx += 5u * s) {
            var w1 = array<f32, 5>();
            var w2 = array<f32, 5>();
            var w3 = array<f32, 5>();
            for (var i = phase / s; i < 3u * s + p.kh; i += s) {
                let iy = oy * s + i - p.top;
                let row = (n * p.h + iy) * p.w;
                let inside = iy < p.h;
                let ix = ox * s + kx - p.left;
                let x0 = columns(row, ix, c, inside);
                let x1 = columns(row, ix + 4u * s, c, inside);
                let x2 = columns(row, ix + 8u * s, c, inside);
                let w0 = taps(i, kx, c);
                a0 = five(a0, x0, x1, w0);
                a1 = five(a1, x1, x2, w0);
                b0 = five(b0, x0, x1, w1);
                b1 = five(b1, x1, x2, w1);
                c0 = five(c0, x0, x1, w2);
                c1 = five(c1, x1, x2, w2);
                d0 = five(d0, x0, x1, w3);
                d1 = five(d1, x1, x2, w3);
                w3 = w2;
                w2 = w1;
                w1 = w0;
            }
        }
    }
    let out = ((n * p.out_h + oy) * p.out_w + ox) * p.c + c;
    let line = p.out_w * p.c;
    store(out, ox, a0);
    store(out + 4u * p.c, ox + 4u, a1);
    if oy + 1u < p.out_h {
        store(out + line, ox, b0);
        store(out + line + 4u * p.c, ox + 4u, b1);
    }
    if oy + 2u < p.out_h {
        store(out + 2u * line, ox, c0);
        store(out + 2u * line + 4u * p.c, ox + 4u, c1);
    }
    if oy + 3u < p.out_h {
        store(out + 3u * line, ox, d0);
        store(out + 3u * line + 4u * p.c, ox + 4u, d1);
    }
}
