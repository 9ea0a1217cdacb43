// y = f(bias + A·W) (+ residual): convolution as a matrix product in registers, for software adapters.
// A [rows, kh·kw·Ci] is x seen through the taps and never written down. Channels come in groups of 4.
// Layout: x [N,H,W,Ci], weight [Co/16][kh·kw·Ci][16] (see pack.wgsl), bias [Co], y and residual
// [N,oH,oW,Co].
// Grid: LANES · 24 pixels, 16 channels, slices. A thread makes 24 pixels × 16 channels; a subgroup reads
// the same weights, which a software driver loads once. Shared memory and barriers would cost it dearly.

//#include "conv2d/product.wgsl"

const PIXELS = 24u;
// Width of a subgroup.
override LANES: u32 = 8u;
// f, and what is added before and after it: a software driver would compute all that it could be.
override ACTIVATION: u32 = 0u;
override SLOPE: f32 = 0.0;
override BIAS: bool = false;
override RESIDUAL: bool = false;
// Can a tap fall outside of x?
override MASKED: bool = true;
// Are there rows and columns between those of x?
override DILATED: bool = true;

// An output pixel, and how many come after it in its slice.
struct Pixel {
    n: u32,
    y: u32,
    x: u32,
    after: u32,
}

fn next(p: Pixel) -> Pixel {
    var q = p;
    if p.after > 0u {
        q.after -= 1u;
        q.x += 1u;
        if q.x == params.out_w {
            q.x = 0u;
            q.y += 1u;
        }
        if q.y == params.out_h {
            q.y = 0u;
            q.n += 1u;
        }
    }
    return q;
}

// Where the pixel under a tap begins in x; -1 where there is none.
fn begin(p: Pixel, ky: u32, kx: u32) -> i32 {
    let iy = origin(i32(p.y * params.stride + ky) - params.top, params.h);
    let ix = origin(i32(p.x * params.stride + kx) - params.left, params.w);
    let at = (i32(p.n * params.h) + iy) * i32(params.w) + ix;
    return select(-1, at * i32(params.groups_in), iy >= 0 && ix >= 0);
}

// Eight pixels at a time: indices must be constants for an array to stay in registers.
fn begin8(p: ptr<function, Pixel>, ky: u32, kx: u32) -> array<i32, 8> {
    let p0 = *p;
    let p1 = next(p0);
    let p2 = next(p1);
    let p3 = next(p2);
    let p4 = next(p3);
    let p5 = next(p4);
    let p6 = next(p5);
    let p7 = next(p6);
    *p = next(p7);
    return array<i32, 8>(
        begin(p0, ky, kx), begin(p1, ky, kx), begin(p2, ky, kx), begin(p3, ky, kx),
        begin(p4, ky, kx), begin(p5, ky, kx), begin(p6, ky, kx), begin(p7, ky, kx));
}

// 16 channels of a pixel.
struct Row {
    a: vec4f,
    b: vec4f,
    c: vec4f,
    d: vec4f,
}

// Weights of 4 input channels.
struct Panel {
    x: Row,
    y: Row,
    z: Row,
    w: Row,
}

fn panel_row(at: u32) -> Row {
    return Row(vec4f(weight[at]), vec4f(weight[at + 1u]), vec4f(weight[at + 2u]), vec4f(weight[at + 3u]));
}

fn panel(at: u32) -> Panel {
    return Panel(panel_row(at), panel_row(at + 4u), panel_row(at + 8u), panel_row(at + 12u));
}

fn load(pixel: i32, group: u32) -> vec4f {
    if MASKED {
        return select(vec4f(), vec4f(x[u32(max(pixel, 0)) + group]), pixel >= 0);
    }
    return vec4f(x[u32(pixel) + group]);
}

fn product(s: vec4f, x: vec4f, y: vec4f, z: vec4f, w: vec4f, sum: vec4f) -> vec4f {
    return fma(s.wwww, w, fma(s.zzzz, z, fma(s.yyyy, y, fma(s.xxxx, x, sum))));
}

fn step(s: vec4f, p: Panel, sum: Row) -> Row {
    return Row(
        product(s, p.x.a, p.y.a, p.z.a, p.w.a, sum.a), product(s, p.x.b, p.y.b, p.z.b, p.w.b, sum.b),
        product(s, p.x.c, p.y.c, p.z.c, p.w.c, sum.c), product(s, p.x.d, p.y.d, p.z.d, p.w.d, sum.d));
}

fn step8(at: array<i32, 8>, group: u32, p: Panel, sum: ptr<function, array<Row, 8>>) {
    (*sum)[0] = step(load(at[0], group), p, (*sum)[0]);
    (*sum)[1] = step(load(at[1], group), p, (*sum)[1]);
    (*sum)[2] = step(load(at[2], group), p, (*sum)[2]);
    (*sum)[3] = step(load(at[3], group), p, (*sum)[3]);
    (*sum)[4] = step(load(at[4], group), p, (*sum)[4]);
    (*sum)[5] = step(load(at[5], group), p, (*sum)[5]);
    (*sum)[6] = step(load(at[6], group), p, (*sum)[6]);
    (*sum)[7] = step(load(at[7], group), p, (*sum)[7]);
}

fn store(slice: u32, row: u32, group: u32, sum: Row) {
    if row >= params.rows {
        return;
    }
    let at = (slice * params.rows + row) * params.groups_out;
    store4(at, group, sum.a);
    store4(at, group + 1u, sum.b);
    store4(at, group + 2u, sum.c);
    store4(at, group + 3u, sum.d);
}

fn store8(slice: u32, row: u32, group: u32, sum: array<Row, 8>) {
    store(slice, row, group, sum[0]);
    store(slice, row + 1u, group, sum[1]);
    store(slice, row + 2u, group, sum[2]);
    store(slice, row + 3u, group, sum[3]);
    store(slice, row + 4u, group, sum[4]);
    store(slice, row + 5u, group, sum[5]);
    store(slice, row + 6u, group, sum[6]);
    store(slice, row + 7u, group, sum[7]);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = (tile.x * LANES + lane) * PIXELS;
    let start = min(row, params.rows - 1u);
    let at = tile.z * params.rows + start;
    let first = Pixel(at / params.out_w / params.out_h, at / params.out_w % params.out_h,
                      at % params.out_w, params.rows - 1u - start);
    // In groups of 4: a block of weights has 16 for each group of the input.
    var block = (tile.z * params.batched + tile.y) * params.kh * params.kw * params.groups_in * 16u;
    var s0: array<Row, 8>;
    var s1: array<Row, 8>;
    var s2: array<Row, 8>;
    for (var ky = 0u; ky < params.kh; ky++) {
        for (var kx = 0u; kx < params.kw; kx++) {
            var pixel = first;
            let at0 = begin8(&pixel, ky, kx);
            let at1 = begin8(&pixel, ky, kx);
            let at2 = begin8(&pixel, ky, kx);
            for (var group = 0u; group < params.groups_in; group++) {
                let p = panel(block);
                block += 16u;
                step8(at0, group, p, &s0);
                step8(at1, group, p, &s1);
                step8(at2, group, p, &s2);
            }
        }
    }
    store8(tile.z, row, tile.y * 4u, s0);
    store8(tile.z, row + 8u, tile.y * 4u, s1);
    store8(tile.z, row + 16u, tile.y * 4u, s2);
}
