//! One-line error reporting.

use std::error::Error;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// The result of a command: its exit status, or an error.
pub type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Runs a command of `program`. On failure, writes one line to standard error, which begins with
/// the program's name, and returns status 2.
pub fn run(program: &str, command: impl FnOnce() -> Outcome) -> ExitCode {
    guarded(command).unwrap_or_else(|error| {
        eprintln!("{program}: {}", one_line(&*error));
        ExitCode::from(2)
    })
}

/// The error and its causes in one line. A cause that the message already contains is not repeated,
/// and line breaks (in a decoder's message or a file name) are replaced.
pub fn one_line(error: &dyn Error) -> String {
    let mut line = flat(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let text = flat(&cause.to_string());
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line
}

fn flat(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// Runs a command; a panic, in the program or in a backend, is returned as an error.
///
/// With `RUST_BACKTRACE` set the panic is also printed as usual, for bug reports.
pub fn guarded(command: impl FnOnce() -> Outcome) -> Outcome {
    let first = Arc::new(Mutex::new(None));
    let usual = Arc::new(panic::take_hook());
    let verbose = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    panic::set_hook(Box::new({
        let (first, usual) = (first.clone(), usual.clone());
        move |panic| {
            // Keeps the first panic: threads that wait for a panicked one panic after it.
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| describe(panic));
            if verbose {
                usual(panic);
            }
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(command));
    panic::set_hook(Box::new(move |panic| usual(panic)));
    outcome.unwrap_or_else(|_| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let what = first.unwrap_or_else(|| "no message".to_owned());
        Err(format!(
            "internal error: {what}; unless the device ran out of memory this is a bug: please \
             report it, with what is printed under RUST_BACKTRACE=1"
        )
        .into())
    })
}

/// Runs a probe of devices without panic messages. A backend with a broken driver panics while it
/// is probed; that is caught and listed with its reason, and the message would only disturb the
/// table.
pub fn quietly<T>(probe: impl FnOnce() -> T) -> T {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let probed = probe();
    panic::set_hook(hook);
    probed
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    match panic.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Failure(&'static str, Option<Box<Failure>>);

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn each_cause_is_printed_once_in_one_line() {
        let caused = |message, cause| Failure(message, Some(Box::new(cause)));
        for (error, expected) in [
            (Failure("no such file", None), "no such file"),
            (caused("a.png: no such file", Failure("no such file", None)), "a.png: no such file"),
            (caused("a.png", Failure("damaged", None)), "a.png: damaged"),
            (caused("a", caused("b", Failure("c", None))), "a: b: c"),
            (Failure("damaged:\n  two\r\n\n", None), "damaged: two"),
            (caused("x: damaged:\n  two\n", Failure("damaged:\n  two", None)), "x: damaged: two"),
        ] {
            assert_eq!(one_line(&error), expected, "{error:?}");
        }
    }

    /// A single test for the process-wide panic hook.
    #[test]
    fn a_panic_is_an_error() {
        assert!(matches!(guarded(|| Ok(ExitCode::SUCCESS)), Ok(code) if code == ExitCode::SUCCESS));
        assert_eq!(guarded(|| Err("no".into())).unwrap_err().to_string(), "no");

        let message = |command: fn() -> Outcome| guarded(command).unwrap_err().to_string();
        let own = message(|| panic!("out of {}", "cheese"));
        assert!(
            own.starts_with("internal error: out of cheese (editmgt-cli/src/failure.rs:"),
            "{own}"
        );
        let silent = message(|| panic::panic_any(7));
        assert!(silent.starts_with("internal error: no message ("), "{silent}");
        let worker = message(|| {
            let worker = std::thread::spawn(|| panic!("the cause"));
            worker.join().expect("the worker's answer");
            unreachable!();
        });
        assert!(worker.starts_with("internal error: the cause ("), "{worker}");
    }
}
