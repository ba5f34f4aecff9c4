//! The parts of loom that the model uses, on real threads: for Miri, which chooses their order, and the values of loads within
//! what the orderings allow.

pub use std::thread;

pub mod sync {
    pub use std::sync::{Arc, Condvar, Mutex, atomic};
}

pub mod cell {
    #[derive(Default)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    // SAFETY: none. Miri checks that no other thread accesses this at the same time.
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
    /// Runs a model once. Miri's seed decides the interleaving.
    #[derive(Default)]
    pub struct Builder {
        pub preemption_bound: Option<usize>,
        pub max_branches: usize,
    }

    impl Builder {
        pub fn new() -> Self {
            Self::default()
        }

        pub fn check(&self, model: impl Fn()) {
            model();
        }
    }
}

/// Created once in a process, so tests that change it cannot share a process.
#[macro_export]
macro_rules! lazy_static {
    ($(static ref $name:ident: $type:ty = $value:expr;)*) => {
        $(static $name: std::sync::LazyLock<$type> = std::sync::LazyLock::new(|| $value);)*
    };
}
