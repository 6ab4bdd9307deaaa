//! Placeholder of the package.
