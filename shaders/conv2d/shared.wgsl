// y = f(bias + A·W) (+ residual): convolution as a matrix product, tiles in shared memory, for any GPU.
// A [rows, kh·kw·Ci] is x seen through the taps and never written down. Channels come in groups of 4.
// Layout: x [N,H,W,Ci], weight [Co/SIDE][kh·kw·Ci][SIDE] (see pack.wgsl), bias [Co], y and residual
// [N,oH,oW,Co].
// Grid: SIDE pixels, SIDE channels, slices. A workgroup makes SIDE × SIDE outputs, a thread 8 × 8: rows
// and groups of channels SIDE/8 apart, so that neighbours read neighbouring banks.

struct Params {
    rows: u32,
    h: u32,
    w: u32,
    groups_in: u32,
    out_h: u32,
    out_w: u32,
    groups_out: u32,
    kh: u32,
    kw: u32,
    stride: u32,
    dilation: u32,
    top: i32,
    left: i32,
    replicate: u32,
    activation: u32,
    slope: f32,
    bias: u32,
    residual: u32,
    steps: u32,
    split: u32,
    batched: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real4>;
@group(0) @binding(1) var<storage, read> weight: array<real4>;
@group(0) @binding(2) var<storage, read> bias: array<real4>;
@group(0) @binding(3) var<storage, read> residual: array<real4>;
@group(0) @binding(4) var<storage, read_write> y: array<result4>;

override SIDE: u32 = 64u;
override THREADS: u32 = 64u; // (SIDE / 8)²
// Can a tap fall outside of x?
override MASKED: bool = true;
// Groups of input channels between two barriers.
const DEPTH = 4u;

// One group more in a row than needed: rows begin in different banks.
var<workgroup> tile_x: array<vec4f, SIDE * (DEPTH + 1u)>;
var<workgroup> tile_w: array<vec4f, DEPTH * 4u * (SIDE / 4u + 1u)>;

// Input row or column under a tap; -1 in zero padding and between the pixels of a dilated input.
fn origin(out: u32, tap: u32, before: i32, size: u32) -> i32 {
    let at = i32(out * params.stride + tap) - before;
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    let d = i32(params.dilation);
    return select(-1, at / d, at >= 0 && at % d == 0 && at / d < i32(size));
}

struct Pixel {
    n: u32,
    y: u32,
    x: u32,
}

fn pixel(row: u32) -> Pixel {
    return Pixel(row / params.out_w / params.out_h, row / params.out_w % params.out_h, row % params.out_w);
}

fn load(p: Pixel, tap: u32, group: u32) -> vec4f {
    let iy = origin(p.y, tap / params.kw, params.top, params.h);
    let ix = origin(p.x, tap % params.kw, params.left, params.w);
    if MASKED && (iy < 0 || ix < 0) {
        return vec4f();
    }
    return vec4f(x[((p.n * params.h + u32(iy)) * params.w + u32(ix)) * params.groups_in + group]);
}

// 8 channels of a pixel.
struct Pair {
    a: vec4f,
    b: vec4f,
}

fn weights(k: u32, column: u32) -> Pair {
    let at = k * (SIDE / 4u + 1u) + column;
    return Pair(tile_w[at], tile_w[at + SIDE / 8u]);
}

fn add(s: f32, w: Pair, sum: Pair) -> Pair {
    return Pair(fma(vec4f(s), w.a, sum.a), fma(vec4f(s), w.b, sum.b));
}

fn product(s: vec4f, w0: Pair, w1: Pair, w2: Pair, w3: Pair, sum: Pair) -> Pair {
    return add(s.w, w3, add(s.z, w2, add(s.y, w1, add(s.x, w0, sum))));
}

fn store4(at: u32, group: u32, sum: vec4f) {
    if group >= params.groups_out {
        return;
    }
    var value = sum;
    if params.bias == 1u {
        value += vec4f(bias[group]);
    }
    value = activate4(params.activation, params.slope, value);
    if params.residual == 1u {
        value += vec4f(residual[at + group]);
    }
    y[at + group] = result4(value);
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
    // What this thread brings to shared memory: one group of up to four pixels.
    let mine = lane % DEPTH;
    let row = lane / DEPTH;
    let apart = THREADS / DEPTH;
    let start = select(tile.z * params.rows, 0u, params.split == 1u);
    let last = params.rows - 1u;
    let p0 = pixel(start + min(tile.x * SIDE + row, last));
    let p1 = pixel(start + min(tile.x * SIDE + row + apart, last));
    let p2 = pixel(start + min(tile.x * SIDE + row + apart * 2u, last));
    let p3 = pixel(start + min(tile.x * SIDE + row + apart * 3u, last));
    let across = lane % (SIDE / 8u);
    let down = lane / (SIDE / 8u);
    var sum: array<Pair, 8>;
    for (var step = first; step < end; step += DEPTH) {
        let tap = (step + mine) / params.groups_in;
        let group = (step + mine) % params.groups_in;
        let there = step + mine < end;
        var x0 = vec4f();
        var x1 = vec4f();
        var x2 = vec4f();
        var x3 = vec4f();
        if there {
            x0 = load(p0, tap, group);
            x1 = load(p1, tap, group);
            if SIDE == 64u {
                x2 = load(p2, tap, group);
                x3 = load(p3, tap, group);
            }
        }
        workgroupBarrier();
        let to = row * (DEPTH + 1u) + mine;
        tile_x[to] = x0;
        tile_x[to + apart * (DEPTH + 1u)] = x1;
        if SIDE == 64u {
            tile_x[to + apart * 2u * (DEPTH + 1u)] = x2;
            tile_x[to + apart * 3u * (DEPTH + 1u)] = x3;
        }
        for (var i = lane; i < DEPTH * SIDE; i += THREADS) {
            let k = i / (SIDE / 4u);
            var w = vec4f();
            if step + k / 4u < end {
                w = vec4f(weight[block + step * SIDE + i]);
            }
            tile_w[k * (SIDE / 4u + 1u) + i % (SIDE / 4u)] = w;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let w0 = weights(k * 4u, across);
            let w1 = weights(k * 4u + 1u, across);
            let w2 = weights(k * 4u + 2u, across);
            let w3 = weights(k * 4u + 3u, across);
            let at = down * (DEPTH + 1u) + k;
            let next = SIDE / 8u * (DEPTH + 1u);
            sum[0] = product(tile_x[at], w0, w1, w2, w3, sum[0]);
            sum[1] = product(tile_x[at + next], w0, w1, w2, w3, sum[1]);
            sum[2] = product(tile_x[at + next * 2u], w0, w1, w2, w3, sum[2]);
            sum[3] = product(tile_x[at + next * 3u], w0, w1, w2, w3, sum[3]);
            sum[4] = product(tile_x[at + next * 4u], w0, w1, w2, w3, sum[4]);
            sum[5] = product(tile_x[at + next * 5u], w0, w1, w2, w3, sum[5]);
            sum[6] = product(tile_x[at + next * 6u], w0, w1, w2, w3, sum[6]);
            sum[7] = product(tile_x[at + next * 7u], w0, w1, w2, w3, sum[7]);
        }
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
