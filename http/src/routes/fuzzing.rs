//! Bodies under fuzzing.

/// A camera as clients send it: what is taken is within the bounds of a camera.
pub fn camera_json(data: &[u8]) {
    super::cameras::fuzz(data);
}
