//! What the decoder promises, tried with built, recorded and damaged messages.

mod corpus;
mod model;
mod mutation;
mod round_trip;
mod strategy;
