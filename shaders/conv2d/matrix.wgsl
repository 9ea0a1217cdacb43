enable wgpu_cooperative_matrix;

// y = f(bias + A·W) (+ residual): convolution as a matrix product on matrix units, for adapters that
// list them: SIDE×SIDE×SIDE, 8 in f32, 16 or 8 in f16 with sums in f32 (the types Left, Right and Sum are
// declared beside `real`).
// A [rows, kh·kw·Ci] is x seen through the taps and never written down. Channels come in groups of 4.
// Layout: x [N,H,W,Ci], weight [Co/T][kh·kw·Ci][T] with T = 8·SIDE (see pack.wgsl), bias [Co], y and
// residual [N,oH,oW,Co].
// Grid: T pixels, T channels, slices. A workgroup is 2 × 4 subgroups and makes T × T outputs, each
// subgroup 4 × 2 matrices; they go through shared memory, where each thread finds the outputs it
// finishes. While a step is multiplied the next one is on its way from memory; it goes into the other
// half of the tiles. What a thread brings has names, not indices, and where a tap finds its pixels is
// worked out once a tap: addresses are otherwise more work than products.

//#include "conv2d/product.wgsl"

// Threads of a subgroup.
const LANES = 32u;
const THREADS = 8u * LANES;
// f, and what is added before and after it: a software driver would compute all that it could be.
override ACTIVATION: u32 = 0u;
override SLOPE: f32 = 0.0;
override BIAS: bool = false;
override RESIDUAL: bool = false;
// Can a tap fall outside of x?
override MASKED: bool = true;
// Are there rows and columns between those of x?
override DILATED: bool = true;
const T = 8u * SIDE;
// Groups of input channels in a step: two matrices deep.
const DEPTH = SIDE / 2u;
// A little more than T and a step, in groups: rows begin in different banks, at multiples of 16 bytes.
const ROW = T / 4u + 2u;
const DEEP = DEPTH + 2u;
// Groups of x, and of the weights, that a thread brings: 4, or 1 where SIDE is 8.
const SHARE = T * DEPTH / THREADS;
// Pixels from one of them to the next, and rows of weights.
const APART = THREADS / DEPTH;
const APART_W = THREADS / (T / 4u);

var<workgroup> tile_x: array<real4, 2u * T * DEEP>;
var<workgroup> tile_w: array<real4, 8u * DEPTH * ROW>;
// A matrix of every subgroup.
var<workgroup> tile_y: array<vec4f, 8u * SIDE * (SIDE / 4u + 1u)>;

// What a thread brings, as found in memory; the first alone where SHARE is 1. Nothing waits for it before
// it goes into the tiles: what lies outside of x is read somewhere else and becomes zeros there.
struct Share {
    a: real4,
    b: real4,
    c: real4,
    d: real4,
}

fn share(at: vec4u, group: u32) -> Share {
    let from_x = select(at + group, vec4u(), at == vec4u(NONE));
    if SHARE == 1u {
        return Share(x[from_x.x], real4(), real4(), real4());
    }
    return Share(x[from_x.x], x[from_x.y], x[from_x.z], x[from_x.w]);
}

// Rows beyond the last one meet zeros of x.
fn share_weights(from_block: u32, at: u32, last: u32) -> Share {
    let i = min(vec4u(at) + THREADS * vec4u(0u, 1u, 2u, 3u), vec4u(last));
    if SHARE == 1u {
        return Share(weight[from_block + i.x], real4(), real4(), real4());
    }
    let w = from_block + i;
    return Share(weight[w.x], weight[w.y], weight[w.z], weight[w.w]);
}

// Finishes a matrix of the subgroup, whose first row and group of channels are given.
fn finish(sum: Sum, lane: u32, slice: u32, first: u32, group: u32) {
    let from_y = lane / LANES * SIDE * (SIDE / 4u + 1u);
    workgroupBarrier();
    coopStoreT(sum, &tile_y[from_y], SIDE / 4u + 1u);
    workgroupBarrier();
    for (var i = lane % LANES; i < SIDE * SIDE / 4u; i += LANES) {
        let row = first + i / (SIDE / 4u);
        let column = i % (SIDE / 4u);
        if row < params.rows {
            let at = (slice * params.rows + row) * params.groups_out;
            store4(at, group + column, tile_y[from_y + i / (SIDE / 4u) * (SIDE / 4u + 1u) + column]);
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let total = params.kh * params.kw * params.groups_in;
    let first = select(0u, tile.z * params.steps, params.split == 1u);
    let end = min(first + params.steps, total);
    let block = (tile.z * params.batched + tile.y) * total * T;
    let start = select(tile.z * params.rows, 0u, params.split == 1u);
    // What this thread brings of a step: a group of some pixels and of some weights.
    let mine = lane % DEPTH;
    let row = lane / DEPTH;
    let last = params.rows - 1u;
    let c0 = corner(start + min(tile.x * T + row, last));
    let c1 = corner(start + min(tile.x * T + row + APART, last));
    let c2 = corner(start + min(tile.x * T + row + 2u * APART, last));
    let c3 = corner(start + min(tile.x * T + row + 3u * APART, last));
    let to_x = row * DEEP + mine;
    let to_w = lane / (T / 4u) * ROW + lane % (T / 4u);
    var s = locate(first + mine);
    var from_x = vec4u(under(c0, s), under(c1, s), under(c2, s), under(c3, s));
    var xs = share(from_x, s.group);
    var ws = share_weights(block, first * T + lane, total * T - 1u);
    // The matrices of this subgroup.
    let down = lane / LANES / 4u * 4u * SIDE;
    let across = lane / LANES % 4u * 2u * SIDE;
    var s00: Sum;
    var s01: Sum;
    var s10: Sum;
    var s11: Sum;
    var s20: Sum;
    var s21: Sum;
    var s30: Sum;
    var s31: Sum;
    var half = 0u;
    for (var step = first; step < end; step += DEPTH) {
        let at_x = half * T * DEEP + to_x;
        let at_w = half * 4u * DEPTH * ROW + to_w;
        tile_x[at_x] = select(real4(), xs.a, from_x.x != NONE);
        tile_w[at_w] = ws.a;
        if SHARE == 4u {
            tile_x[at_x + APART * DEEP] = select(real4(), xs.b, from_x.y != NONE);
            tile_x[at_x + 2u * APART * DEEP] = select(real4(), xs.c, from_x.z != NONE);
            tile_x[at_x + 3u * APART * DEEP] = select(real4(), xs.d, from_x.w != NONE);
            tile_w[at_w + APART_W * ROW] = ws.b;
            tile_w[at_w + 2u * APART_W * ROW] = ws.c;
            tile_w[at_w + 3u * APART_W * ROW] = ws.d;
        }
        workgroupBarrier();
        s.group += DEPTH;
        if s.group >= params.groups_in {
            s = wrapped(s);
            from_x = vec4u(under(c0, s), under(c1, s), under(c2, s), under(c3, s));
        }
        xs = share(from_x, s.group);
        ws = share_weights(block, (step + DEPTH) * T + lane, total * T - 1u);
        for (var k = 0u; k < 4u * DEPTH; k += SIDE) {
            let at_x = half * T * DEEP + down * DEEP + k / 4u;
            let at_w = (half * 4u * DEPTH + k) * ROW + across / 4u;
            let w0 = coopLoadT<Right>(&tile_w[at_w], ROW);
            let w1 = coopLoadT<Right>(&tile_w[at_w + SIDE / 4u], ROW);
            let x0 = coopLoadT<Left>(&tile_x[at_x], DEEP);
            let x1 = coopLoadT<Left>(&tile_x[at_x + SIDE * DEEP], DEEP);
            let x2 = coopLoadT<Left>(&tile_x[at_x + 2u * SIDE * DEEP], DEEP);
            let x3 = coopLoadT<Left>(&tile_x[at_x + 3u * SIDE * DEEP], DEEP);
            s00 = coopMultiplyAdd(x0, w0, s00);
            s01 = coopMultiplyAdd(x0, w1, s01);
            s10 = coopMultiplyAdd(x1, w0, s10);
            s11 = coopMultiplyAdd(x1, w1, s11);
            s20 = coopMultiplyAdd(x2, w0, s20);
            s21 = coopMultiplyAdd(x2, w1, s21);
            s30 = coopMultiplyAdd(x3, w0, s30);
            s31 = coopMultiplyAdd(x3, w1, s31);
        }
        half = 1u - half;
    }
    let at = tile.x * T + down;
    let group = (tile.y * T + across) / 4u;
    finish(s00, lane, tile.z, at, group);
    finish(s01, lane, tile.z, at, group + SIDE / 4u);
    finish(s10, lane, tile.z, at + SIDE, group);
    finish(s11, lane, tile.z, at + SIDE, group + SIDE / 4u);
    finish(s20, lane, tile.z, at + 2u * SIDE, group);
    finish(s21, lane, tile.z, at + 2u * SIDE, group + SIDE / 4u);
    finish(s30, lane, tile.z, at + 3u * SIDE, group);
    finish(s31, lane, tile.z, at + 3u * SIDE, group + SIDE / 4u);
}
