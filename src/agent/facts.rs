//! Reads facts about the machine from `/proc` and other files.

use std::fs;

use crate::domain::agent::Facts;
use crate::sys::hostname::hostname;

/// Reads facts. Keeps the processor ticks of the last read, from which the CPU usage is computed.
#[derive(Debug, Default)]
pub(crate) struct FactsReader {
    busy: u64,
    total: u64,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Returns the `PRETTY_NAME` of an os-release file.
fn os_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Returns a value of `/proc/meminfo`, in bytes.
fn memory(meminfo: &str, key: &str) -> u64 {
    let kibibytes = meminfo.lines().find_map(|line| {
        line.strip_prefix(key)?.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0) * 1024
}

/// Returns the busy and the total ticks from the first line of `/proc/stat`.
fn processor_ticks(stat: &str) -> (u64, u64) {
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|tick| tick.parse().ok())
        .collect();
    let total = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (total - idle, total)
}

impl FactsReader {
    /// Reads the current facts. The CPU usage is the average since the last call, and 0 in the first call.
    #[expect(clippy::cast_precision_loss, reason = "a percentage for display")]
    pub(crate) fn read(&mut self, running_tasks: u32, troubles: Vec<String>) -> Facts {
        let (busy, total) = processor_ticks(&read("/proc/stat"));
        let passed = total.saturating_sub(self.total);
        let cpu_percent = if self.total == 0 || passed == 0 {
            0.0
        } else {
            busy.saturating_sub(self.busy) as f32 * 100.0 / passed as f32
        };
        (self.busy, self.total) = (busy, total);
        let meminfo = read("/proc/meminfo");
        let first = |text: String| text.split_whitespace().next().unwrap_or_default().to_owned();
        let uptime = first(read("/proc/uptime"));
        Facts {
            os: os_name(&read("/etc/os-release")).into(),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            architecture: std::env::consts::ARCH.into(),
            cpus: std::thread::available_parallelism()
                .map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
            cpu_percent,
            memory_total: memory(&meminfo, "MemTotal"),
            memory_available: memory(&meminfo, "MemAvailable"),
            load1: first(read("/proc/loadavg")).parse().unwrap_or(0.0),
            uptime_s: uptime.split('.').next().unwrap_or_default().parse().unwrap_or(0),
            hostname: hostname().into(),
            running_tasks,
            troubles: troubles.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_understood() {
        assert_eq!(os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(memory("MemTotal:       1024 kB\nMemFree: 1 kB\n", "MemTotal"), 1_048_576);
        assert_eq!(processor_ticks("cpu  10 0 5 80 5 0 0 0 0 0\n"), (15, 100));
    }

    #[test]
    fn this_machine_has_memory_and_a_kernel() {
        let facts = FactsReader::default().read(0, Vec::new());
        assert!(facts.memory_total > 0 && !facts.kernel.is_empty() && facts.uptime_s > 0);
    }
}
