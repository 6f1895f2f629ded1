#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| http_api::fuzzing::camera_urls(data));
