// y = f(bias + A·W) (+ residual): convolution as a matrix product, tiles in shared memory, for any GPU.
// A [rows, kh·kw·Ci] is x seen through the taps and never written down. Channels come in groups of 4.
// Layout: x [N,H,W,Ci], weight [Co/SIDE][kh·kw·Ci][SIDE] (see pack.wgsl), bias [Co], y and residual
// [N,oH,oW,Co].
// Grid: SIDE pixels, SIDE channels, slices. A workgroup makes SIDE × SIDE outputs, a thread 8 × 8: rows
// and groups of channels SIDE/8 apart, so that neighbours read neighbouring banks. While a step is
// multiplied the next one is on its way from memory; it goes into the other half of the tiles. Where a
// tap finds its pixels is worked out once a tap.

//#include "conv2d/product.wgsl"

override SIDE: u32 = 64u;
override THREADS: u32 = 64u; // (SIDE / 8)²
// f, and what is added before and after it: a software driver would compute all that it could be.
override ACTIVATION: u32 = 0u;
override SLOPE: f32 = 0.0;
override BIAS: bool = false;
override RESIDUAL: bool = false;
// Can a tap fall outside of x?
override MASKED: bool = true;
// Are there rows and columns between those of x?
override DILATED: bool = true;
// Groups of input channels in a step.
const DEPTH = 2u;

var<workgroup> tile_x: array<vec4f, 2u * SIDE * DEPTH>;
var<workgroup> tile_w: array<vec4f, 2u * SIDE * DEPTH>;

// Somewhere where it is outside of x. Nothing waits for what is read before it goes into the tiles.
fn load(from_x: u32, group: u32) -> real4 {
    return x[select(from_x + group, 0u, from_x == NONE)];
}

// Zeros outside of x.
fn masked(from_x: u32, found: real4) -> vec4f {
    return select(vec4f(), vec4f(found), from_x != NONE);
}

// 8 channels of a pixel.
struct Pair {
    a: vec4f,
    b: vec4f,
}

fn weights(at: u32) -> Pair {
    return Pair(tile_w[at], tile_w[at + SIDE / 8u]);
}

fn add(s: f32, w: Pair, sum: Pair) -> Pair {
    return Pair(fma(vec4f(s), w.a, sum.a), fma(vec4f(s), w.b, sum.b));
}

fn product(s: vec4f, w0: Pair, w1: Pair, w2: Pair, w3: Pair, sum: Pair) -> Pair {
    return add(s.w, w3, add(s.z, w2, add(s.y, w1, add(s.x, w0, sum))));
}

fn store(slice: u32, row: u32, group: u32, sum: Pair) {
    if row < params.rows {
        let at = (slice * params.rows + row) * params.groups_out;
        store4(at, group, sum.a);
        store4(at, group + SIDE / 8u, sum.b);
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let total = params.kh * params.kw * params.groups_in;
    let first = select(0u, tile.z * params.steps, params.split == 1u);
    let end = min(first + params.steps, total);
    let block = (tile.z * params.batched + tile.y) * total * SIDE;
    // What this thread brings of a step: one group of a pixel and one of weights; two where SIDE is 64.
    let start = select(tile.z * params.rows, 0u, params.split == 1u);
    let last = params.rows - 1u;
    let row = tile.x * SIDE + lane / DEPTH;
    let c0 = corner(start + min(row, last));
    let c1 = corner(start + min(row + THREADS / DEPTH, last));
    let second = lane + THREADS;
    var s = locate(first + lane % DEPTH);
    var from_x = vec2u(under(c0, s), under(c1, s));
    // Weights beyond the last ones meet zeros of x.
    let last_w = block + total * SIDE - 1u;
    var x0 = load(from_x.x, s.group);
    var w0 = weight[min(block + first * SIDE + lane, last_w)];
    var x1 = real4();
    var w1 = real4();
    if SIDE == 64u {
        x1 = load(from_x.y, s.group);
        w1 = weight[min(block + first * SIDE + second, last_w)];
    }
    let across = lane % (SIDE / 8u);
    let down = lane / (SIDE / 8u);
    var sum: array<Pair, 8>;
    var half = 0u;
    for (var step = first; step < end; step += DEPTH) {
        tile_x[half + lane] = masked(from_x.x, x0);
        tile_w[half + lane] = vec4f(w0);
        if SIDE == 64u {
            tile_x[half + second] = masked(from_x.y, x1);
            tile_w[half + second] = vec4f(w1);
        }
        workgroupBarrier();
        s.group += DEPTH;
        if s.group >= params.groups_in {
            s = wrapped(s);
            from_x = vec2u(under(c0, s), under(c1, s));
        }
        let next = block + (step + DEPTH) * SIDE;
        x0 = load(from_x.x, s.group);
        w0 = weight[min(next + lane, last_w)];
        if SIDE == 64u {
            x1 = load(from_x.y, s.group);
            w1 = weight[min(next + second, last_w)];
        }
        for (var k = 0u; k < DEPTH; k++) {
            let column = half + k * SIDE + across;
            let a = weights(column);
            let b = weights(column + SIDE / 4u);
            let c = weights(column + SIDE / 4u * 2u);
            let d = weights(column + SIDE / 4u * 3u);
            let at = half + down * DEPTH + k;
            let apart = SIDE / 8u * DEPTH;
            sum[0] = product(tile_x[at], a, b, c, d, sum[0]);
            sum[1] = product(tile_x[at + apart], a, b, c, d, sum[1]);
            sum[2] = product(tile_x[at + apart * 2u], a, b, c, d, sum[2]);
            sum[3] = product(tile_x[at + apart * 3u], a, b, c, d, sum[3]);
            sum[4] = product(tile_x[at + apart * 4u], a, b, c, d, sum[4]);
            sum[5] = product(tile_x[at + apart * 5u], a, b, c, d, sum[5]);
            sum[6] = product(tile_x[at + apart * 6u], a, b, c, d, sum[6]);
            sum[7] = product(tile_x[at + apart * 7u], a, b, c, d, sum[7]);
        }
        half = SIDE * DEPTH - half;
    }
    let at = tile.x * SIDE + down;
    let column = tile.y * (SIDE / 4u) + across;
    store(tile.z, at, column, sum[0]);
    store(tile.z, at + SIDE / 8u, column, sum[1]);
    store(tile.z, at + SIDE / 8u * 2u, column, sum[2]);
    store(tile.z, at + SIDE / 8u * 3u, column, sum[3]);
    store(tile.z, at + SIDE / 8u * 4u, column, sum[4]);
    store(tile.z, at + SIDE / 8u * 5u, column, sum[5]);
    store(tile.z, at + SIDE / 8u * 6u, column, sum[6]);
    store(tile.z, at + SIDE / 8u * 7u, column, sum[7]);
}
