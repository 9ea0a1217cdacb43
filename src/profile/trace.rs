//! The trace event format of Chrome, which Perfetto opens: what ran when.

use super::{Interval, Profile, Recording};
use serde_json::{Value, json};

/// The host's and the device's tracks.
const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// One round as a JSON document.
pub fn trace(recording: &Recording, profile: &Profile) -> Value {
    let mut events = vec![name("process_name", HOST, 0, "host")];
    for (number, thread) in recording.threads.iter().enumerate() {
        events.push(name("thread_name", HOST, number as u32, thread));
    }
    if recording.calls.iter().any(|call| !call.launches.is_empty()) {
        let clock = match recording.estimated {
            true => "estimated by the host's clock",
            false => "timestamps",
        };
        let device = format!("{} ({clock})", profile.device);
        events.push(name("process_name", DEVICE, 0, &device));
        events.push(name("thread_name", DEVICE, 0, "launches"));
    }
    for step in &recording.steps {
        events.push(event(
            &step.name,
            "step",
            [HOST, step.thread as u32],
            step.at,
            json!({}),
        ));
    }
    for call in &recording.calls {
        let title = format!("{} {}", call.op, call.entry);
        let about = json!({
            "shapes": call.shapes,
            "variant": call.variant(),
            "flops": call.cost.flops,
            "bytes": call.cost.bytes,
        });
        // On a GPU the host only records; the launches have the time.
        let kind = match call.launches.is_empty() {
            true => "kernel",
            false => "record",
        };
        events.push(event(
            &title,
            kind,
            [HOST, call.thread as u32],
            call.host,
            about.clone(),
        ));
        for launch in &call.launches {
            let title = format!("{title}: {}/{}", launch.shader, launch.entry);
            events.push(event(
                &title,
                "kernel",
                [DEVICE, 0],
                launch.at,
                about.clone(),
            ));
        }
    }
    json!({
        "displayTimeUnit": "ms",
        "otherData": {
            "program": profile.program,
            "job": profile.job,
            "device": profile.device,
            "estimated": recording.estimated,
        },
        "traceEvents": events,
    })
}

fn name(what: &str, process: u32, thread: u32, name: &str) -> Value {
    json!({"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}})
}

/// A complete event; times are microseconds.
fn event(name: &str, kind: &str, [process, thread]: [u32; 2], at: Interval, args: Value) -> Value {
    json!({
        "name": name, "cat": kind, "ph": "X", "pid": process, "tid": thread,
        "ts": 1e6 * at.start.as_secs_f64(), "dur": 1e6 * at.time.as_secs_f64(), "args": args,
    })
}
