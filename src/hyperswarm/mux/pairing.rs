use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// What both sides name when they open the same channel (`toKey`). An empty id is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) protocol: String,
    pub(super) id: Bytes,
}

/// Names a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(u64);

/// Channels with the same protocol (under any of its names) and id: `info` of the original.
#[derive(Debug, Default)]
pub(super) struct Group {
    keys: Vec<Key>,
    /// Channels we have open, paired or not.
    pub(super) opened: usize,
    /// Slots of channels the peer opened that wait for ours, oldest first.
    pub(super) incoming: VecDeque<usize>,
    /// Slots of channels we opened that wait for the peer's, oldest first; also those we have closed since.
    pub(super) outgoing: VecDeque<usize>,
}

/// All groups, by their names. A group is gone when nothing is open or waiting in it.
#[derive(Debug, Default)]
pub(super) struct Groups {
    names: BTreeMap<Key, GroupId>,
    groups: BTreeMap<GroupId, Group>,
    next: u64,
}

impl Groups {
    pub(super) fn find(&self, key: &Key) -> Option<GroupId> {
        self.names.get(key).copied()
    }

    /// The group of this name; a new one gets the aliases too (`_get`). An alias that is in use stays where it is.
    pub(super) fn find_or_create(&mut self, key: &Key, aliases: &[String]) -> GroupId {
        if let Some(id) = self.find(key) {
            return id;
        }
        let id = GroupId(self.next);
        self.next += 1;
        let aliases = aliases.iter().map(|alias| Key { protocol: alias.clone(), id: key.id.clone() });
        let mut keys = vec![key.clone()];
        keys.extend(aliases.filter(|alias| !self.names.contains_key(alias)));
        self.names.extend(keys.iter().map(|key| (key.clone(), id)));
        self.groups.insert(id, Group { keys, ..Group::default() });
        id
    }

    pub(super) fn group(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// Forgets the group if nothing is left in it (`_gc`).
    pub(super) fn collect(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else { return };
        if group.opened == 0 && group.incoming.is_empty() && group.outgoing.is_empty() {
            for key in self.groups.remove(&id).map(|group| group.keys).unwrap_or_default() {
                self.names.remove(&key);
            }
        }
    }

    /// Names in use, for tests of their bound.
    #[cfg(any(test, feature = "testkit"))]
    pub(super) fn len(&self) -> usize {
        self.names.len().max(self.groups.len())
    }
}
