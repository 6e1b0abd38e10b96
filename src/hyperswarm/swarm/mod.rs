//! (room of swarm)
