//! The profile as one HTML page that asks no network for anything: figures, roofline, table.

use super::{Profile, roofline::colour, roofline::roofline};
use crate::evaluate::report::escape;

const STYLE: &str = "
:root { --fused: #b07d00; }
@media (prefers-color-scheme: dark) { :root { --fused: #f0d35a; } }
.roofline circle { fill-opacity: .55; stroke: var(--card); stroke-width: 1; }
.roofline circle:hover { fill-opacity: 1; stroke: var(--ink); }
.roof { fill: none; stroke: var(--ink); stroke-width: 2; } .lower { stroke-width: 1; stroke-dasharray: 6 4; }
.k0 { fill: var(--soft); background: var(--soft); } .k1 { fill: var(--accent); background: var(--accent); }
.k2 { fill: var(--good); background: var(--good); } .k3 { fill: var(--bad); background: var(--bad); }
.k4 { fill: var(--fused); background: var(--fused); }
.plot { padding: 14px 16px; }
.plot figcaption { font-weight: 600; font-size: .95rem; margin-bottom: 8px; display: flex; justify-content: space-between; flex-wrap: wrap; }
.kernels th, .kernels td { padding: 5px 12px; font-size: .88rem; }
.kernels th.text { text-align: left; }
.kernels td.text { text-align: left; color: var(--soft); white-space: normal; min-width: 15em; }
.kernels i { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 8px; }
.kernels tr:hover { background: var(--paper); }
";

pub fn page(profile: &Profile) -> String {
    let mut body = String::new();
    header(&mut body, profile);
    tiles(&mut body, profile);
    body += &format!(
        "<section><figure class=\"plot\"><figcaption>Roofline<span class=\"legend\">\
         <i class=\"k1\"></i>conv2d <i class=\"k2\"></i>depthwise <i class=\"k4\"></i>bottleneck \
         <i class=\"k3\"></i>coupling, losses \
         <i class=\"k0\"></i>other; area: share of the time</span></figcaption>{}</figure></section>\n",
        roofline(profile)
    );
    kernels(&mut body, profile);
    steps(&mut body, profile);
    footer(&mut body, profile);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(&profile.job),
        include_str!("../evaluate/report/style.css"),
    )
}

fn header(page: &mut String, p: &Profile) {
    *page += &format!(
        "<header><p class=\"brand\">astray profile</p><h1>{}</h1><p class=\"lead\">on {}, {}</p></header>\n",
        escape(&p.job),
        escape(&p.device),
        match p.wall.len() {
            1 => "one round".into(),
            n => format!("{n} rounds"),
        }
    );
    if p.estimated {
        *page += "<p class=\"note\">Times are estimated: each launch was timed by the host's clock, with the \
                  way there and back.</p>\n";
    }
    if let Some(note) = p.roof.note(p.half) {
        *page += &format!(
            "<p class=\"note\">In {}: {note}.</p>\n",
            if p.half { "f16" } else { "f32" }
        );
    }
    if p.stray_launches > 0 {
        *page += &format!(
            "<p class=\"note\">{} launches belong to no kernel and are not in the table.</p>\n",
            p.stray_launches
        );
    }
}

fn tiles(page: &mut String, p: &Profile) {
    let wall = p.wall.iter().sum::<f64>() / p.wall.len().max(1) as f64;
    let at_roof: f64 = p
        .kernels
        .iter()
        .map(|k| k.seconds * k.percent_of_roof / 100.0)
        .sum();
    let reached = 100.0 * at_roof / p.kernel_seconds.max(f64::MIN_POSITIVE);
    let memory = p.peak_device_bytes.or(p.peak_resident_bytes);
    let tiles = [
        (
            "Wall time",
            format!("{:.0}<small> ms</small>", 1e3 * wall),
            "Of one round, the mean.".to_string(),
        ),
        (
            "In kernels",
            format!("{:.1}<small> %</small>", 100.0 * p.explained),
            "Of the wall time; the rest is below, under steps.".into(),
        ),
        (
            "Of the roof",
            format!("{reached:.0}<small> %</small>"),
            "Over all kernels: the time at the roof by the time taken.".into(),
        ),
        (
            "Peak memory",
            memory.map_or("–".into(), |b| {
                format!("{:.0}<small> MiB</small>", b as f64 / f64::from(1 << 20))
            }),
            match p.peak_device_bytes {
                Some(_) => "On the device, given out by the pool.".into(),
                None => "Of the process, resident.".into(),
            },
        ),
    ];
    *page += "<section class=\"tiles\">\n";
    for (name, number, meaning) in tiles {
        *page += &format!(
            "<div class=\"tile\"><h2>{name}</h2><p class=\"number\">{number}</p><p>{meaning}</p></div>\n"
        );
    }
    *page += "</section>\n";
}

fn kernels(page: &mut String, p: &Profile) {
    *page += "<section><h2>Kernels</h2><div class=\"scroll\"><table class=\"kernels\"><thead><tr>\
              <th>Kernel</th><th class=\"text\">Shapes</th><th>Calls</th><th>Share</th><th>ms/call</th><th>GFLOP/s</th>\
              <th>GB/s</th><th>FLOP/B</th><th>Of roof</th><th>Variant</th></tr></thead><tbody>\n";
    for k in &p.kernels {
        *page += &format!(
            "<tr><th><i class=\"{}\"></i>{} {}</th><td class=\"text\">{}</td><td>{}</td><td>{:.1} %</td>\
             <td>{:.3}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td>{:.0} %</td><td>{}</td></tr>\n",
            colour(&k.op),
            escape(&k.op),
            escape(&k.entry),
            escape(&k.shapes),
            k.calls,
            100.0 * k.share,
            1e3 * k.seconds / k.calls as f64,
            k.gflops,
            k.gb_per_s,
            k.intensity,
            k.percent_of_roof,
            escape(&k.variant),
        );
    }
    *page += "</tbody></table></div></section>\n";
}

fn steps(page: &mut String, p: &Profile) {
    *page += "<section><h2>Steps on the host</h2><div class=\"scroll\"><table class=\"kernels\"><thead><tr>\
              <th>Step</th><th>Calls</th><th>ms</th><th>ms without kernels and steps inside</th></tr></thead><tbody>\n";
    for step in &p.steps {
        *page += &format!(
            "<tr><th>{}</th><td>{}</td><td>{:.2}</td><td>{:.2}</td></tr>\n",
            escape(&step.name),
            step.calls,
            1e3 * step.seconds,
            1e3 * step.own_seconds
        );
    }
    *page += "</tbody></table></div></section>\n";
}

fn footer(page: &mut String, p: &Profile) {
    let resident = p
        .peak_resident_bytes
        .map(|b| format!("{:.0} MiB", b as f64 / f64::from(1 << 20)));
    let details = [
        ("program", p.program.clone()),
        ("threads", p.threads.to_string()),
        ("roof", format!("measured: {}", p.roof)),
        ("peak of the process", resident.unwrap_or("unknown".into())),
        (
            "above 100 % of the roof",
            "data that stay in a cache, or Winograd, which needs fewer operations than are counted"
                .into(),
        ),
    ];
    *page += "<footer><h2>Details</h2><dl>\n";
    for (name, value) in details {
        *page += &format!("<dt>{name}</dt><dd>{}</dd>\n", escape(&value));
    }
    *page += "</dl></footer>\n";
}
