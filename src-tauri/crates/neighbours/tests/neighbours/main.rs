//! Against programs that are played: an engine on a socket, model servers on loopback, and kills at every step.

mod crash;
mod engine;
mod offers;
mod servers;
mod stops;
