//! The policy of a swarm, sans-io: which topic, whom to dial, when to try again. One room per generation: [`v2`], [`v4`].

pub mod v2;
pub mod v4;
