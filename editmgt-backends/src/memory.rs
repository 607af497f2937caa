//! Memory of the machine and of this process, from `/proc`.

/// Peak memory of this process in bytes; `None` if the system does not report it (all but Linux).
pub fn peak_memory() -> Option<u64> {
    bytes_of("VmHWM:", &std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Memory of this process in bytes; `None` if the system does not report it (all but Linux).
pub fn resident_memory() -> Option<u64> {
    bytes_of("VmRSS:", &std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Memory in bytes that programs can still use without swapping; `None` if the system does not
/// report it (all but Linux).
pub fn available_memory() -> Option<u64> {
    bytes_of("MemAvailable:", &std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// The machine's memory in bytes; `None` if the system does not report it.
pub(crate) fn host_memory() -> Option<u64> {
    bytes_of("MemTotal:", &std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// The value of `VmHWM:     1234 kB` among other lines.
fn bytes_of(key: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_peak_memory() {
        for (status, expected) in [
            ("VmPeak:\t 9 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 5 kB\n", Some(1234 * 1024)),
            ("VmRSS:\t 5 kB\n", None),
            ("VmHWM:\t much kB\n", None),
            ("VmHWM:\t 5 pages\n", None),
            ("VmHWM:\t 18446744073709551615 kB\n", None),
            ("", None),
        ] {
            assert_eq!(bytes_of("VmHWM:", status), expected, "{status:?}");
        }
        if cfg!(target_os = "linux") {
            assert!(peak_memory() > Some(1 << 20));
            assert!(resident_memory() > Some(1 << 20) && resident_memory() <= peak_memory());
            assert!(host_memory() > peak_memory());
            assert!(host_memory() > available_memory() && available_memory() > Some(0));
        }
    }
}
