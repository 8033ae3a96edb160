//! Integration tests, one binary so that they share a broker.

mod capture;
mod checkpoint;
mod conformance;
mod delivery;
mod demo;
#[path = "../tidy/deploy.rs"]
mod deploy;
mod detect;
mod doctor;
mod exactly;
mod frameworks;
mod housekeeping;
mod init;
mod orphans;
mod poison;
mod poll;
mod pollfaults;
mod pollservers;
mod presets;
mod record;
mod recording;
mod refusals;
mod scene;
mod secure;
mod servers;
mod snapshot;
mod stalls;
#[path = "../tidy/tidy.rs"]
mod tidy;
mod transactions;
mod traps;
