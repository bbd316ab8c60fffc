#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| teamster::fuzzing::command(bytes));
