//! Lines of the report: what was measured, the figure, and its budget where there is one.

use crate::figures::Latencies;
use std::time::Duration;

pub fn title(text: &str) {
    println!("\n{text}");
}

pub fn line(what: &str, figure: &str, budget: &str) {
    let budget = if budget.is_empty() { String::new() } else { format!("[{budget}]") };
    println!("  {what:<44} {figure:<52} {budget}");
}

pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub fn kib_as_mib(kib: u64) -> String {
    mib(kib << 10)
}

pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The least, the median and the most of some times, in milliseconds.
pub fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let ms = |time: &Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
    match times {
        [] => "none".into(),
        [only] => format!("{} ms", ms(only)),
        _ => {
            let (least, most) = (&times[0], &times[times.len() - 1]);
            format!("{} ms ({}–{})", ms(&times[times.len() / 2]), ms(least), ms(most))
        }
    }
}

pub fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

pub fn p50_p99(times: &Latencies) -> String {
    format!("p50 {} ms, p99 {} ms", times.percentile_ms(50.0), times.percentile_ms(99.0))
}

pub fn micros_each(cpu: Duration, count: u64) -> String {
    format!("{:.0} µs", cpu.as_secs_f64() * 1e6 / count.max(1) as f64)
}
