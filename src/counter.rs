//! The processor's counter, which takes a third as long to read as the clock.
//!
//! What it is: one instruction, and whether to rely on it. It is the only `unsafe` code there is: the
//! standard library has the instruction only so. What it is not: a clock; how fast it counts,
//! `Stopwatch` finds out.
//!
//! Invariant: without a counter that Linux itself relies on there is none.

/// Where Linux says what it keeps its clock by.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Whether it counts at one rate on all processors, whether they work or sleep: Linux keeps its own
/// clock by it then, and by no means otherwise. (`kvm-clock` promises less: it corrects what it counts
/// for each processor.)
pub fn is_reliable() -> bool {
    let source = std::fs::read_to_string(CLOCK_SOURCE);
    let by_counter = ["tsc", "hyperv_clocksource_tsc_page"];
    cfg!(target_arch = "x86_64") && source.is_ok_and(|name| by_counter.contains(&name.trim()))
}

/// What it stands at; means something only where [`is_reliable`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
pub fn read() -> u64 {
    // SAFETY: every x86-64 processor has it, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// What it stands at; means something only where [`is_reliable`].
#[cfg(not(target_arch = "x86_64"))]
pub fn read() -> u64 {
    0
}
