#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pod_chaos_agent::fuzz::names(bytes));
