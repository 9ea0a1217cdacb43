// dW[ky,kx,ci,co] = Σ x[…]·dy[…] over output pixels, a matrix product with tiles in shared memory, for
// any GPU. Layout as in gradient.wgsl.
// Grid: 64 input channels (a tap's blocks, then the next tap's), 64 output channels, slices. A workgroup
// makes 64 × 64 sums, a thread 8 × 8.

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

// Pixels between two barriers; groups of 4 channels along a side.
const DEPTH = 16u;
const GROUPS = 16u;

var<workgroup> tile_x: array<vec4f, DEPTH * GROUPS>;
var<workgroup> tile_dy: array<vec4f, DEPTH * GROUPS>;

fn origin(out: u32, tap: u32, before: u32, size: u32) -> i32 {
    let at = i32(out * params.stride + tap) - i32(before);
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    return select(-1, at, at >= 0 && at < i32(size));
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
    store4(at, co + 8u, s0.b);
    store4(at + params.groups_out, co, s1.a);
    store4(at + params.groups_out, co + 8u, s1.b);
    store4(at + params.groups_out * 2u, co, s2.a);
    store4(at + params.groups_out * 2u, co + 8u, s2.b);
    store4(at + params.groups_out * 3u, co, s3.a);
    store4(at + params.groups_out * 3u, co + 8u, s3.b);
}

@compute @workgroup_size(64)
fn weight(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
    let blocks = (params.groups_in + GROUPS - 1u) / GROUPS;
    let tap = tile.x / blocks;
    let ci = tile.x % blocks * GROUPS;
    let co = tile.y * GROUPS;
    let ky = tap / params.kw;
    let kx = tap % params.kw;
    let end = min((tile.z + 1u) * params.rows, params.n * params.out_h) * params.out_w;
    let mine = lane % GROUPS;
    let across = lane % 8u;
    let down = lane / 8u;
    var sum: array<Pair, 8>;
    for (var first = tile.z * params.rows * params.out_w; first < end; first += DEPTH) {
        workgroupBarrier();
        for (var k = lane / GROUPS; k < DEPTH; k += 64u / GROUPS) {
            let pixel = first + k;
            var from_x = vec4f();
            var from_dy = vec4f();
            if pixel < end {
                let row = pixel / params.out_w;
                let iy = origin(row % params.out_h, ky, params.top, params.h);
                let ix = origin(pixel % params.out_w, kx, params.left, params.w);
                if iy >= 0 && ix >= 0 && ci + mine < params.groups_in {
                    let at = (row / params.out_h * params.h + u32(iy)) * params.w + u32(ix);
                    from_x = vec4f(x[at * params.groups_in + ci + mine]);
                }
                if co + mine < params.groups_out {
                    from_dy = vec4f(dy[pixel * params.groups_out + co + mine]);
                }
            }
            tile_x[k * GROUPS + mine] = from_x;
            tile_dy[k * GROUPS + mine] = from_dy;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let at = k * GROUPS;
            let g = Pair(tile_dy[at + across], tile_dy[at + across + 8u]);
            let a = tile_x[at + down];
            let b = tile_x[at + down + 8u];
            sum[0] = add(a.x, g, sum[0]);
            sum[1] = add(a.y, g, sum[1]);
            sum[2] = add(a.z, g, sum[2]);
            sum[3] = add(a.w, g, sum[3]);
            sum[4] = add(b.x, g, sum[4]);
            sum[5] = add(b.y, g, sum[5]);
            sum[6] = add(b.z, g, sum[6]);
            sum[7] = add(b.w, g, sum[7]);
        }
    }
    let at = (tile.z * params.kh * params.kw + tap) * params.groups_in * 4u;
    store(at, ci + down, co + across, sum[0], sum[1], sum[2], sum[3]);
    store(at, ci + down + 8u, co + across, sum[4], sum[5], sum[6], sum[7]);
}
