//! Time and memory used by this process, as reported by the system. `None` without `/proc`.

pub use editmgt_backends::peak_memory;

/// CPU seconds of all threads of this process so far, with a resolution of 10 ms.
pub fn cpu_seconds() -> Option<f64> {
    cpu_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks as f64 / 100.0)
}

/// User and system time of a line of `/proc/PID/stat`, in ticks. (A tick is 1/100 s for programs
/// on all architectures that burn's CPU backend runs on, whatever the kernel's own.)
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The program's name, in parentheses, may contain spaces and parentheses. The text after it
    // begins with the third field; user and system time are the 14th and 15th.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// Resets the peak returned by [`peak_memory`] to the present use. If the system does not support
/// it, the peak is that of the whole process.
pub fn reset_peak_memory() {
    // 5 means "reset the peak resident set size": proc(5).
    let _refused = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_whatever_the_name() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 250 31 0 0";
        for name in ["(editmgt)", "(a b)", "(a) R 9 (b)"] {
            assert_eq!(cpu_ticks(&format!("77 {name} {fields}")), Some(281), "{name}");
        }
        for broken in
            ["", "77 (editmgt)", "77 (editmgt) S 1 2", "77 (a) S 1 2 3 4 5 6 7 8 9 10 x 3"]
        {
            assert_eq!(cpu_ticks(broken), None, "{broken}");
        }
    }
}
