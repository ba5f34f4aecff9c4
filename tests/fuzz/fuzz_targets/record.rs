#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mrlock_fuzz::record::check(input));
