//! Traces: their form, interpolation, what a worker adds, scaling.

use std::time::Duration;

use embedbar_contract::Pressure;
use embedbar_planner::trace::{Trace, TraceError, TraceMachine};

use crate::machines::gb;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const RAMP: &str = "# a comment\ntotal 16 GB\n0 4 normal 0\n100 8 warn 10 # another\n\n200 8 normal 0\n";

#[test]
fn quantities_are_interpolated_and_pressure_holds_until_the_next_moment() {
    let machine = TraceMachine::new(Trace::parse(RAMP).expect("it is good"));
    let free = |at: u64| machine.reading(seconds(at), None).available_bytes.expect("it is known");
    assert_eq!([free(0), free(25), free(50), free(100), free(5000)], [12.0, 11.0, 10.0, 8.0, 8.0].map(gb));
    let pressure = |at: u64| machine.reading(seconds(at), None).pressure.expect("it is known");
    assert_eq!(
        [pressure(99), pressure(100), pressure(199), pressure(200)],
        [Pressure::Normal, Pressure::Warn, Pressure::Warn, Pressure::Normal]
    );
    let five_megabytes = 5.0 * 1_048_576.0;
    assert!((machine.page_ins_per_second(seconds(50), None) - five_megabytes).abs() < 1.0);
    assert!((machine.page_ins_per_second(seconds(150), None) - five_megabytes).abs() < 1.0);
}

#[test]
fn what_a_worker_holds_comes_on_top_and_makes_the_machine_short() {
    let machine = TraceMachine::new(Trace::parse("total 16 GB\n0 10 normal 0").expect("it is good"));
    let with = |held: f64| machine.reading(Duration::ZERO, Some(gb(held)));
    let pressures = [with(5.0), with(5.2), with(6.5), with(7.0)].map(|reading| reading.pressure.expect("it is known"));
    // Left: 1 GB (6.25 %), 0.8 GB (5 %), -0.5 GB (-3 %), -1 GB (-6.25 %).
    assert_eq!(pressures, [Pressure::Normal, Pressure::Warn, Pressure::Warn, Pressure::Critical]);
    assert_eq!(with(5.0).available_bytes, Some(gb(1.0)));
    let beyond = with(6.5);
    assert_eq!((beyond.available_bytes, beyond.swap_used_bytes), (Some(0), Some(gb(0.5))));
    assert!(beyond.swap_out_bytes_per_second.expect("it is known") > 1e6);
    assert!(machine.page_ins_per_second(Duration::ZERO, Some(gb(6.5))) > 1e6);
    assert_eq!(with(5.0).swap_out_bytes_per_second, Some(0.0));
    assert_eq!(with(5.0).worker_bytes, Some(gb(5.0)));
}

#[test]
fn a_scaled_machine_has_the_same_day() {
    let trace = Trace::builtin("16gb-docker").expect("it is there");
    let factor = TraceMachine::factor_for(trace, 100 << 20);
    let small = TraceMachine::new(trace.clone()).scaled(factor);
    let total = small.reading(Duration::ZERO, None).total_bytes.expect("it is known");
    assert!(total.abs_diff(320 << 20) <= 1, "100 MB are five sixteenths of {total}");
    let large = TraceMachine::new(trace.clone());
    for at in (0..7200).step_by(97).map(seconds) {
        let share = |machine: &TraceMachine, held: u64| {
            let reading = machine.reading(at, Some(held));
            (
                reading.available_bytes.expect("known") as f64 / reading.total_bytes.expect("known") as f64,
                reading.pressure,
            )
        };
        let ((one, pressure), (other, scaled)) = (share(&large, gb(5.0)), share(&small, 100 << 20));
        assert!((one - other).abs() < 1e-6 && pressure == scaled, "{at:?}: {one} {other}");
    }
    assert_eq!(small.describe(seconds(60)), "320.0 MB, the others use 90.0 MB");
}

#[test]
fn the_committed_traces_are_good_and_as_large_as_their_names() {
    let names: Vec<&str> = Trace::names().collect();
    assert_eq!(names, ["8gb-browser", "16gb-docker", "16gb-full", "32gb-build", "64gb-calm"]);
    for name in names {
        let trace = Trace::builtin(name).expect("it is there");
        let total: f64 = name.split("gb").next().and_then(|total| total.parse().ok()).expect("its name says");
        assert_eq!(trace.total_bytes(), gb(total));
        assert!(trace.duration() >= Duration::from_hours(1));
    }
    assert!(Trace::builtin("none").is_none());
}

#[test]
fn what_is_not_of_the_form_is_refused_with_its_line() {
    let refused = |text: &str| Trace::parse(text).expect_err("it is wrong");
    for (text, number) in [
        ("total 16 GB\n0 4 normal", 2),
        ("total 16 GB\n0 -4 normal 0", 2),
        ("total 16 GB\n0 NaN normal 0", 2),
        ("total 16 GB\n0 4 fine 0", 2),
        ("total 16 GB\n5 4 normal 0\n5 4 normal 0", 3),
        ("total x GB", 1),
    ] {
        assert!(matches!(refused(text), TraceError::Malformed { line, .. } if line == number), "{text}");
    }
    assert_eq!(refused("0 4 normal 0"), TraceError::Incomplete("total"));
    assert_eq!(refused("total 0 GB\n0 4 normal 0"), TraceError::Incomplete("total"));
    assert_eq!(refused("total 16 GB"), TraceError::Incomplete("moment"));
}
