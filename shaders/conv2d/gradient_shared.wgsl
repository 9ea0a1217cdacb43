// dW[ky,kx,ci,co] = Σ x[…]·dy[…] over output pixels, a matrix product with tiles in shared memory, for
// any GPU. Layout as in gradient.wgsl.
// Grid: SIDE input channels (a tap's blocks, then the next tap's), SIDE output channels, slices. A
// workgroup makes SIDE × SIDE sums, a thread 8 × 8. While a step is multiplied the next one is on its
// way from memory; it goes into the other half of the tiles.

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

override SIDE: u32 = 64u;
override THREADS: u32 = 64u; // (SIDE / 8)²
// Pixels in a step.
const DEPTH = 8u;

var<workgroup> tile_x: array<vec4f, 2u * DEPTH * SIDE / 4u>;
var<workgroup> tile_dy: array<vec4f, 2u * DEPTH * SIDE / 4u>;

// An output pixel: its number, the first row of its picture in x, then row and column in the output.
struct Pixel {
    number: u32,
    picture: u32,
    y: u32,
    x: u32,
}

fn locate(number: u32) -> Pixel {
    let row = number / params.out_w;
    return Pixel(number, row / params.out_h * params.h, row % params.out_h, number % params.out_w);
}

fn advance(from_pixel: Pixel) -> Pixel {
    var p = from_pixel;
    p.number += DEPTH;
    p.x += DEPTH;
    while p.x >= params.out_w {
        p.x -= params.out_w;
        p.y += 1u;
        if p.y == params.out_h {
            p.y = 0u;
            p.picture += params.h;
        }
    }
    return p;
}

fn origin(out: u32, tap: u32, before: u32, size: u32) -> i32 {
    let at = i32(out * params.stride + tap) - i32(before);
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    return select(-1, at, at >= 0 && at < i32(size));
}

fn load_x(p: Pixel, ky: u32, kx: u32, group: u32, end: u32) -> real4 {
    let iy = origin(p.y, ky, params.top, params.h);
    let ix = origin(p.x, kx, params.left, params.w);
    if p.number >= end || group >= params.groups_in || iy < 0 || ix < 0 {
        return real4();
    }
    return x[((p.picture + u32(iy)) * params.w + u32(ix)) * params.groups_in + group];
}

fn load_dy(p: Pixel, group: u32, end: u32) -> real4 {
    if p.number >= end || group >= params.groups_out {
        return real4();
    }
    return dy[p.number * params.groups_out + group];
}

// 8 output channels.
struct Pair {
    a: vec4f,
    b: vec4f,
}

fn add(s: f32, g: Pair, sum: Pair) -> Pair {
    return Pair(fma(vec4f(s), g.a, sum.a), fma(vec4f(s), g.b, sum.b));
}

fn store4(at: u32, group: u32, sum: vec4f) {
    if group < params.groups_out {
        dw[at + group] = sum;
    }
}

// Four input channels.
fn store(first: u32, ci: u32, co: u32, s0: Pair, s1: Pair, s2: Pair, s3: Pair) {
    if ci >= params.groups_in {
        return;
    }
    let at = (first + ci * 4u) * params.groups_out;
    store4(at, co, s0.a);
    store4(at, co + SIDE / 8u, s0.b);
    store4(at + params.groups_out, co, s1.a);
    store4(at + params.groups_out, co + SIDE / 8u, s1.b);
    store4(at + params.groups_out * 2u, co, s2.a);
    store4(at + params.groups_out * 2u, co + SIDE / 8u, s2.b);
    store4(at + params.groups_out * 3u, co, s3.a);
    store4(at + params.groups_out * 3u, co + SIDE / 8u, s3.b);
}

@compute @workgroup_size(THREADS)
fn weight(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let blocks = (params.groups_in + SIDE / 4u - 1u) / (SIDE / 4u);
    let tap = tile.x / blocks;
    let ci = tile.x % blocks * (SIDE / 4u);
    let co = tile.y * (SIDE / 4u);
    let ky = tap / params.kw;
    let kx = tap % params.kw;
    let first = tile.z * params.rows * params.out_w;
    let end = min((tile.z + 1u) * params.rows, params.n * params.out_h) * params.out_w;
    // What this thread brings of a step: a group of x and one of dy; of two pixels where SIDE is 64.
    let from_x = ci + lane % (SIDE / 4u);
    let from_dy = co + lane % (SIDE / 4u);
    let second = lane + THREADS;
    var p0 = locate(first + lane / (SIDE / 4u));
    var p1 = locate(first + second / (SIDE / 4u));
    var x0 = load_x(p0, ky, kx, from_x, end);
    var dy0 = load_dy(p0, from_dy, end);
    var x1 = real4();
    var dy1 = real4();
    if SIDE == 64u {
        x1 = load_x(p1, ky, kx, from_x, end);
        dy1 = load_dy(p1, from_dy, end);
    }
    let across = lane % (SIDE / 8u);
    let down = lane / (SIDE / 8u);
    var sum: array<Pair, 8>;
    var half = 0u;
    for (var step = first; step < end; step += DEPTH) {
        tile_x[half + lane] = vec4f(x0);
        tile_dy[half + lane] = vec4f(dy0);
        if SIDE == 64u {
            tile_x[half + second] = vec4f(x1);
            tile_dy[half + second] = vec4f(dy1);
        }
        workgroupBarrier();
        if step + DEPTH < end {
            p0 = advance(p0);
            x0 = load_x(p0, ky, kx, from_x, end);
            dy0 = load_dy(p0, from_dy, end);
            if SIDE == 64u {
                p1 = advance(p1);
                x1 = load_x(p1, ky, kx, from_x, end);
                dy1 = load_dy(p1, from_dy, end);
            }
        }
        for (var k = 0u; k < DEPTH; k++) {
            let at = half + k * (SIDE / 4u);
            let g = Pair(tile_dy[at + across], tile_dy[at + across + SIDE / 8u]);
            let a = tile_x[at + down];
            let b = tile_x[at + down + SIDE / 8u];
            sum[0] = add(a.x, g, sum[0]);
            sum[1] = add(a.y, g, sum[1]);
            sum[2] = add(a.z, g, sum[2]);
            sum[3] = add(a.w, g, sum[3]);
            sum[4] = add(b.x, g, sum[4]);
            sum[5] = add(b.y, g, sum[5]);
            sum[6] = add(b.z, g, sum[6]);
            sum[7] = add(b.w, g, sum[7]);
        }
        half = DEPTH * SIDE / 4u - half;
    }
    let at = (tile.z * params.kh * params.kw + tap) * params.groups_in * 4u;
    store(at, ci + down, co + across, sum[0], sum[1], sum[2], sum[3]);
    store(at, ci + down + SIDE / 8u, co + across, sum[4], sum[5], sum[6], sum[7]);
}
