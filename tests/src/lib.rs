//! What the cross-crate tests share. The promises themselves are in `tests/`, one file each.
