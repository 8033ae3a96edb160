//! Integration tests, one binary so that they share a broker.

mod orphans;
mod servers;
