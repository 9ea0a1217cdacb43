// What the convolutions by matrix products share: their parameters, how they walk through the taps, and how they end.
// A [rows, kh·kw·Ci] is x seen through the taps and never written down. Channels come in groups of 4.
// Layout: x [N,H,W,Ci], bias [Co], y and residual [N,oH,oW,Co]; weight as the kernel says.

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
    steps: u32,
    split: u32,
    batched: u32,
}

@group(0) @binding(0) var<storage, read> x: array<real4>;
@group(0) @binding(1) var<storage, read> weight: array<real4>;
@group(0) @binding(2) var<storage, read> bias: array<real4>;
@group(0) @binding(3) var<storage, read> residual: array<real4>;
@group(0) @binding(4) var<storage, read_write> y: array<result4>;

// Outside of x.
const NONE = 0xffffffffu;

// Where the taps of an output pixel begin: the first row of its picture, then row and column in it.
struct Corner {
    picture: u32,
    y: i32,
    x: i32,
}

fn corner(row: u32) -> Corner {
    let y = row / params.out_w % params.out_h * params.stride;
    let x = row % params.out_w * params.stride;
    return Corner(row / params.out_w / params.out_h * params.h, i32(y) - params.top, i32(x) - params.left);
}

// A group of input channels under a tap.
struct Step {
    ky: u32,
    kx: u32,
    group: u32,
}

fn locate(step: u32) -> Step {
    let tap = step / params.groups_in;
    return Step(tap / params.kw, tap % params.kw, step % params.groups_in);
}

// The same channels under the tap after it.
fn wrapped(from_step: Step) -> Step {
    var s = from_step;
    while s.group >= params.groups_in {
        s.group -= params.groups_in;
        s.kx += 1u;
        if s.kx == params.kw {
            s.kx = 0u;
            s.ky += 1u;
        }
    }
    return s;
}

// Row or column of x; -1 in zero padding and between the pixels of a dilated input.
fn origin(at: i32, size: u32) -> i32 {
    if params.replicate == 1u {
        return clamp(at, 0, i32(size) - 1);
    }
    if DILATED {
        let d = i32(params.dilation);
        return select(-1, at / d, at >= 0 && at % d == 0 && at / d < i32(size));
    }
    return select(-1, at, at >= 0 && at < i32(size));
}

// Where a tap finds a pixel's groups of input channels.
fn under(c: Corner, s: Step) -> u32 {
    if s.ky >= params.kh {
        return NONE;
    }
    let iy = origin(c.y + i32(s.ky), params.h);
    let ix = origin(c.x + i32(s.kx), params.w);
    if MASKED && (iy < 0 || ix < 0) {
        return NONE;
    }
    return ((c.picture + u32(iy)) * params.w + u32(ix)) * params.groups_in;
}

fn store4(at: u32, group: u32, sum: vec4f) {
    if group >= params.groups_out {
        return;
    }
    var value = sum;
    if BIAS {
        value += vec4f(bias[group]);
    }
    value = activate4(ACTIVATION, SLOPE, value);
    if RESIDUAL {
        value += vec4f(residual[at + group]);
    }
    y[at + group] = result4(value);
}
