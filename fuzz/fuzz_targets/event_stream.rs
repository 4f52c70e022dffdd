#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kinesis_local::fuzzing::event_stream(input));
