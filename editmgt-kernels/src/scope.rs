//! Choices that hold for the calls of a thread.

/// Runs `pass` with a value in the place of another: `replace` puts a value there and returns the
/// one before. That one is put back afterwards, also if the pass panics.
pub(crate) fn with_value<T, R>(replace: impl Fn(T) -> T, value: T, pass: impl FnOnce() -> R) -> R {
    let previous = Some(replace(value));
    let _previous = Previous { value: previous, replace };
    pass()
}

struct Previous<T, F: Fn(T) -> T> {
    value: Option<T>,
    replace: F,
}

impl<T, F: Fn(T) -> T> Drop for Previous<T, F> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.replace)(value);
        }
    }
}
