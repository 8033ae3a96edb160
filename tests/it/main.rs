//! Integration tests, one binary so that they share a broker.

mod delivery;
mod orphans;
mod poison;
mod refusals;
mod scene;
mod secure;
mod servers;
mod stalls;
