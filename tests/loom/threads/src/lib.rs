//! As much of loom as the model uses, on real threads: for Miri, which runs them in an order of its own choosing, with the
//! values that the orderings allow.

pub use std::thread;

pub mod sync {
    pub use std::sync::{Arc, Condvar, Mutex, atomic};
}

pub mod cell {
    #[derive(Default)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    // SAFETY: none. That nobody is here at once is what Miri checks.
    unsafe impl<T> Sync for UnsafeCell<T> {}

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub fn with_mut<R>(&self, body: impl FnOnce(*mut T) -> R) -> R {
            body(self.0.get())
        }
    }
}

pub mod model {
    /// Runs a model once: which way is Miri's choice, by its seed.
    #[derive(Default)]
    pub struct Builder {
        pub preemption_bound: Option<usize>,
        pub max_branches: usize,
    }

    impl Builder {
        pub fn new() -> Self {
            Self::default()
        }

        pub fn check(&self, model: fn()) {
            model();
        }
    }
}

/// Made once in a process: tests that change it cannot share one.
#[macro_export]
macro_rules! lazy_static {
    ($(static ref $name:ident: $type:ty = $value:expr;)*) => {
        $(static $name: std::sync::LazyLock<$type> = std::sync::LazyLock::new(|| $value);)*
    };
}
