//! How the bytes of a file are found right, and what is asked of whom until they are.

use std::time::Instant;

use super::super::keys::ProviderKey;
use super::turn::Hunt;
use super::{Action, Failure, Plan, Provider, Source};

/// What tells right bytes from wrong ones.
#[derive(Debug)]
pub(super) enum Trust {
    /// The hash of the whole file, and nothing before.
    Whole(Asked),
}

/// Where the bytes of a file come from that can only be checked as a whole.
#[derive(Debug)]
pub(super) enum Asked {
    /// From everybody: nothing that several senders had a part in was wrong.
    Everybody,
    /// Something was: from one provider at a time, until the hash is right.
    OneByOne(Hunt),
}

impl Trust {
    pub(super) fn new() -> Self {
        Self::Whole(Asked::Everybody)
    }

    pub(super) fn hunt(&self) -> Option<&Hunt> {
        match self {
            Self::Whole(Asked::Everybody) => None,
            Self::Whole(Asked::OneByOne(hunt)) => Some(hunt),
        }
    }

    pub(super) fn hunt_mut(&mut self) -> Option<&mut Hunt> {
        match self {
            Self::Whole(Asked::Everybody) => None,
            Self::Whole(Asked::OneByOne(hunt)) => Some(hunt),
        }
    }

    /// The only provider that may be asked, if others may not.
    pub(super) fn only(&self) -> Option<ProviderKey> {
        self.hunt()?.chosen()
    }
}

impl Plan {
    /// The complete file has another hash. A single sender is dropped as a liar, or asked for single pieces if others
    /// may have mixed them up; of several, one is chosen from whom everything is fetched ([`Action::Forget`] names what
    /// others sent).
    pub(crate) fn on_wrong_hash(&mut self, now: Instant) {
        let totals = self.blame.totals();
        if let (1, Some(Source::Provider(sender))) = (totals.len(), totals.keys().next()) {
            self.lose_turn(*sender, now);
            match self.may_be_mixed_up(*sender) {
                true => self.ask_for_single_pieces(),
                false => self.fail(*sender, self.wrong_bytes_of(*sender)),
            }
        }
        if totals.len() > 1 && self.trust.hunt().is_none() {
            self.trust = Trust::Whole(Asked::OneByOne(Hunt::default()));
        }
        // Either what it sent is wrong, or what was kept of the best one beside it.
        if let Some(chosen) = self.trust.only() {
            self.trust_only(&[chosen]);
        }
        match self.trust.hunt() {
            Some(_) => self.begin_turn(now),
            None => self.trust_only(&[]),
        }
        self.assign(now);
    }

    /// The hash is right: drops those who sent other bytes before.
    pub(crate) fn on_right_hash(&mut self) {
        for liar in self.blame.liars() {
            self.fail(liar, self.wrong_bytes_of(liar));
        }
    }

    /// True if the pieces of a provider's answers may have come in another order than they were sent in.
    fn may_be_mixed_up(&self, key: ProviderKey) -> bool {
        let provider = self.providers.get(&key);
        let may_ask = |provider: &Provider| provider.kind.has_ranges() && !provider.single_pieces;
        self.ever_relayed.contains(&key) && provider.is_some_and(may_ask)
    }

    /// Of relayed providers, and nothing is kept of what came from them.
    fn ask_for_single_pieces(&mut self) {
        let mut relayed = Vec::new();
        for (key, provider) in &mut self.providers {
            provider.single_pieces = true;
            relayed.extend(provider.is_relayed().then_some(*key));
        }
        relayed.into_iter().for_each(|key| self.take_back(key));
        self.trust_only(&[]);
    }

    /// What it means that the bytes of a provider are wrong.
    fn wrong_bytes_of(&self, key: ProviderKey) -> Failure {
        if self.ever_relayed.contains(&key) { Failure::Garbled } else { Failure::WrongBytes }
    }

    /// Forgets what came from anybody else.
    pub(super) fn trust_only(&mut self, providers: &[ProviderKey]) {
        for (start, end) in self.blame.suspect_all_but(providers) {
            self.actions.push_back(Action::Forget { start, end });
        }
    }
}
