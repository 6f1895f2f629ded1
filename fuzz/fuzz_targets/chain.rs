#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| indexer::fuzzing::chain(data));
