//! The smallest stories that once failed.
