//! Fair shares by origin: networks share equally, then the hosts of a network, then the neighbours at a host. Shares count
//! only while there is not enough for everybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::peer::{Group, Origin};

/// What each group has, or had.
#[derive(Debug, Default)]
pub(crate) struct Shares(BTreeMap<Group, usize>);

impl Shares {
    /// One more for these origins together: each of their groups counts once.
    pub(crate) fn add(&mut self, origins: impl IntoIterator<Item = Origin>) {
        let groups: BTreeSet<_> = origins.into_iter().flat_map(Origin::groups).collect();
        groups.into_iter().for_each(|group| *self.0.entry(group).or_default() += 1);
    }

    fn of(&self, group: &Group) -> usize {
        self.0.get(group).copied().unwrap_or(0)
    }

    /// The counts of its groups, the widest first: of all that wait, the one with the lowest is next.
    pub(crate) fn rank(&self, origin: Origin) -> [usize; 4] {
        origin.groups().map(|group| self.of(&group))
    }

    /// True if `holder` is to give one up for `newcomer`: where their groups part, its own has at least two more, so that
    /// none is won back.
    pub(crate) fn must_yield(&self, holder: Origin, newcomer: Origin) -> bool {
        let mut pairs = holder.groups().into_iter().zip(newcomer.groups());
        let parted = pairs.find(|(held, new)| held != new);
        parted.is_some_and(|(held, new)| self.of(&held) >= self.of(&new) + 2)
    }
}

impl FromIterator<Origin> for Shares {
    fn from_iter<I: IntoIterator<Item = Origin>>(origins: I) -> Self {
        let mut shares = Self::default();
        origins.into_iter().for_each(|origin| shares.add([origin]));
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::peer::PeerKey;
    use hyperswarm::crypto::PublicKey;

    fn origin(host: [u8; 4], neighbour: u8) -> Origin {
        Origin { host: Some(host.into()), neighbour: PeerKey(PublicKey([neighbour; 32])), own: false }
    }

    #[test]
    fn keys_behind_one_neighbour_neighbours_at_one_host_and_hosts_of_one_network_have_one_share() {
        let one = origin([203, 0, 113, 1], 1);
        for stranger in
            [origin([203, 0, 114, 1], 2), origin([203, 0, 113, 2], 2), origin([203, 0, 113, 1], 2)]
        {
            let shares: Shares = [stranger, stranger].into_iter().collect();
            assert!(shares.must_yield(stranger, one) && !shares.must_yield(one, stranger));
            assert!(shares.rank(one) < shares.rank(stranger));
            let even: Shares = [stranger, stranger, one].into_iter().collect();
            assert!(!even.must_yield(stranger, one), "it would be won back");
        }
    }

    #[test]
    fn a_neighbour_that_speaks_for_itself_has_another_share_than_what_it_passes_on() {
        let passed_on = origin([203, 0, 113, 1], 1);
        let own = Origin { own: true, ..passed_on };
        let shares: Shares = [passed_on, passed_on].into_iter().collect();
        assert!(shares.must_yield(passed_on, own));
    }

    #[test]
    fn several_origins_at_one_host_that_claim_the_same_are_one_claim_of_the_host() {
        let mut shares = Shares::default();
        shares.add([origin([203, 0, 113, 1], 1), origin([203, 0, 113, 1], 2)]);
        assert_eq!(shares.rank(origin([203, 0, 113, 1], 3)), [1, 1, 0, 0]);
    }
}
