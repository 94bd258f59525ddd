//! What a process costs, as Linux counts it, and what several runs say together.

use std::fs;
use std::process::{Child, Command};

use serde::Serialize;

/// Microseconds in a clock tick of `/proc/PID/stat`, which is a hundredth of a second on every Linux.
const TICK_US: f64 = 10_000.0;

/// A contender at work, and the processes that it starts.
pub(crate) struct Process {
    child: Child,
}

/// Processor time and context switches since the start.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    cpu_us: f64,
    switches: f64,
}

/// One run.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Sample {
    pub(crate) commands_per_second: f64,
    pub(crate) cpu_us_per_command: f64,
    pub(crate) switches_per_command: f64,
    pub(crate) peak_memory_mb: f64,
}

impl Sample {
    /// What so many commands took between two readings.
    pub(crate) fn between(before: Usage, after: Usage, seconds: f64, count: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = count as f64;
        Self {
            commands_per_second: count / seconds,
            cpu_us_per_command: (after.cpu_us - before.cpu_us) / count,
            // A thread that ended in between takes its switches with it.
            switches_per_command: (after.switches - before.switches).max(0.0) / count,
            peak_memory_mb: 0.0,
        }
    }
}

/// The median of some runs, and their spread.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of<T>(samples: &[T], figure: impl Fn(&T) -> f64) -> Self {
        let mut figures: Vec<f64> = samples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        };
        Self {
            median,
            min: figures[0],
            max: figures[figures.len() - 1],
        }
    }
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap();
        Self { child }
    }

    /// Asks it to stop, and waits: what is in flight ends first, so that nothing returns to the queue.
    pub(crate) fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the worker did not stop cleanly");
    }

    pub(crate) fn usage(&self) -> Usage {
        let (mut cpu_us, mut switches) = (0.0, 0.0);
        for pid in self.tree() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            // The name in parentheses may contain spaces. After it, utime and stime are the 12th and 13th.
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            let ticks = fields.split(' ').skip(11).take(2);
            cpu_us += ticks.map(|it| it.parse::<f64>().unwrap()).sum::<f64>() * TICK_US;
            for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
                // A thread may end while its line is read.
                let status = fs::read_to_string(task.unwrap().path().join("status"));
                switches += status.map_or(0.0, |status| {
                    field(&status, "voluntary_ctxt_switches:")
                        + field(&status, "nonvoluntary_ctxt_switches:")
                });
            }
        }
        Usage { cpu_us, switches }
    }

    pub(crate) fn memory_mb(&self) -> f64 {
        self.memory("VmRSS:")
    }

    pub(crate) fn peak_memory_mb(&self) -> f64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> f64 {
        let of = |pid| {
            field(
                &fs::read_to_string(format!("/proc/{pid}/status")).unwrap(),
                key,
            )
        };
        self.tree().into_iter().map(of).sum::<f64>() / 1024.0
    }

    /// The process and all below it.
    fn tree(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while next < found.len() {
            for task in fs::read_dir(format!("/proc/{}/task", found[next])).unwrap() {
                let children = fs::read_to_string(task.unwrap().path().join("children"));
                let children = children.unwrap_or_default();
                found.extend(
                    children
                        .split_whitespace()
                        .map(|pid| pid.parse::<u32>().unwrap()),
                );
            }
            next += 1;
        }
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to do where it has ended.
        self.child.kill().ok();
    }
}

/// A number in a file of lines like `VmHWM:  1234 kB`.
fn field(status: &str, key: &str) -> f64 {
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
