// Gradients of a convolution.
// weight: dW[ky,kx,ci,co] = Σ x[…]·dy[…] over output pixels, a matrix product in registers. dW and x
// are as wide as groups of 4 make them; a slice sums some rows of the output, see sum.wgsl.
// Grid: LANES · 16 input channels (a tap's blocks, then the next tap's), 16 output channels, slices.
// fold: the gradient of a picture with its border repeated → that of the picture.
// Grid: a thread per group of 4 channels.

struct Params {
    n: u32,
    h: u32,
    w: u32,
    groups_in: u32,
    out_h: u32,
    out_w: u32,
    groups_out: u32,
    kh: u32,
    kw: u32,
    stride: u32,
    top: u32,
    left: u32,
    replicate: u32,
    rows: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real4>;
@group(0) @binding(1) var<storage, read> dy: array<real4>;
@group(0) @binding(2) var<storage, read_write> dw: array<vec4f>;

override LANES: u32 = 8u;

fn origin(out: u32, tap: u32, before: u32, size: u32) -> i32 {
    let at = i32(out * params.stride + tap) - i32(before);
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    return select(-1, at, at >= 0 && at < i32(size));
}

// 16 output channels.
struct Row {
    a: vec4f,
    b: vec4f,
    c: vec4f,
    d: vec4f,
}

fn load(at: u32, group: u32, inside: bool) -> vec4f {
    return select(vec4f(), vec4f(x[at + min(group, params.groups_in - 1u)]), inside);
}

fn load_dy(at: u32, group: u32) -> vec4f {
    return vec4f(dy[at + min(group, params.groups_out - 1u)]);
}

fn step(s: f32, g: Row, sum: Row) -> Row {
    let v = vec4f(s);
    return Row(fma(v, g.a, sum.a), fma(v, g.b, sum.b), fma(v, g.c, sum.c), fma(v, g.d, sum.d));
}

fn step4(s: vec4f, g: Row, sum: ptr<function, array<Row, 4>>) {
    (*sum)[0] = step(s.x, g, (*sum)[0]);
    (*sum)[1] = step(s.y, g, (*sum)[1]);
    (*sum)[2] = step(s.z, g, (*sum)[2]);
    (*sum)[3] = step(s.w, g, (*sum)[3]);
}

fn store(at: u32, group: u32, sum: Row) {
    let rest = params.groups_out - group;
    dw[at + group] = sum.a;
    if rest > 1u { dw[at + group + 1u] = sum.b; }
    if rest > 2u { dw[at + group + 2u] = sum.c; }
    if rest > 3u { dw[at + group + 3u] = sum.d; }
}

fn store4(row: u32, ci: u32, co: u32, sum: array<Row, 4>) {
    if ci >= params.groups_in {
        return;
    }
    let at = (row + ci * 4u) * params.groups_out;
    store(at, co, sum[0]);
    store(at + params.groups_out, co, sum[1]);
    store(at + params.groups_out * 2u, co, sum[2]);
    store(at + params.groups_out * 3u, co, sum[3]);
}

@compute @workgroup_size(LANES)
fn weight(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let blocks = (params.groups_in + 3u) / 4u;
    let mine = tile.x * LANES + lane;
    let tap = mine / blocks;
    let ky = tap / params.kw;
    let kx = tap % params.kw;
    let ci = mine % blocks * 4u;
    let co = tile.y * 4u;
    var s0: array<Row, 4>;
    var s1: array<Row, 4>;
    var s2: array<Row, 4>;
    var s3: array<Row, 4>;
    let end = min((tile.z + 1u) * params.rows, params.n * params.out_h);
    for (var row = tile.z * params.rows; row < end; row++) {
        let iy = origin(row % params.out_h, ky, params.top, params.h);
        let start = (row / params.out_h * params.h + u32(max(iy, 0))) * params.w;
        for (var ox = 0u; ox < params.out_w; ox++) {
            let ix = origin(ox, kx, params.left, params.w);
            let inside = iy >= 0 && ix >= 0;
            let at = (start + u32(max(ix, 0))) * params.groups_in;
            let start_dy = (row * params.out_w + ox) * params.groups_out;
            let g = Row(load_dy(start_dy, co), load_dy(start_dy, co + 1u), load_dy(start_dy, co + 2u), load_dy(start_dy, co + 3u));
            step4(load(at, ci, inside), g, &s0);
            step4(load(at, ci + 1u, inside), g, &s1);
            step4(load(at, ci + 2u, inside), g, &s2);
            step4(load(at, ci + 3u, inside), g, &s3);
        }
    }
    let taps = params.kh * params.kw;
    if tap >= taps {
        return;
    }
    let first = (tile.z * taps + tap) * params.groups_in * 4u;
    store4(first, ci, co, s0);
    store4(first, ci + 1u, co, s1);
    store4(first, ci + 2u, co, s2);
    store4(first, ci + 3u, co, s3);
}

@group(0) @binding(0) var<storage, read> padded: array<real4>;
@group(0) @binding(1) var<storage, read_write> dx: array<real4>;

// The padded positions that show input position `at`.
fn shown(at: u32, before: u32, size: u32, padded: u32) -> vec2u {
    let first = select(at + before, 0u, at == 0u);
    let last = select(at + before, padded - 1u, at == size - 1u);
    return vec2u(first, min(last, padded - 1u));
}

@compute @workgroup_size(64)
fn fold(@builtin(workgroup_id) tile: vec3u, @builtin(num_workgroups) tiles: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let element = index(tile, tiles, lane);
    if element >= p.n * p.h * p.w * p.groups_in {
        return;
    }
    var i = element;
    let group = i % p.groups_in;
    i /= p.groups_in;
    let ix = i % p.w;
    i /= p.w;
    let height = (p.out_h - 1u) * p.stride + p.kh;
    let width = (p.out_w - 1u) * p.stride + p.kw;
    let ys = shown(i % p.h, p.top, p.h, height);
    let xs = shown(ix, p.left, p.w, width);
    var sum = vec4f();
    for (var y = ys.x; y <= ys.y; y++) {
        for (var x = xs.x; x <= xs.y; x++) {
            sum += vec4f(padded[((i / p.h * height + y) * width + x) * p.groups_in + group]);
        }
    }
    dx[element] = real4(sum);
}
