//! The routing table: k-buckets that split only around our own id (npm k-bucket, kademlia-routing-table), and the same
//! nodes in order of last contact (npm time-ordered-set).
//!
//! Only the bucket that contains our own id ever splits, so the tree is a list: bucket `i` holds the ids that share
//! exactly `i` leading bits with ours, the last bucket all that share at least its index. Contacts lie in one slab, which
//! buckets and order refer to by place: a full table of a network of 10,000 nodes takes about 16 KiB.

use std::net::{Ipv4Addr, SocketAddrV4};

use rand::RngExt;
use rand::rngs::StdRng;

use super::id::{NodeId, by_distance};
use super::shares::{Diverse, Tally, is_diverse};
use crate::limits::{MAX_BUCKET_NODES, MAX_BUCKETS};

/// How many of the longest-unheard nodes of a full bucket may have to make room (k-bucket's `numberOfNodesToPing`).
const CANDIDATES: usize = 3;
/// The slab grows by so many contacts.
const GROWTH: usize = 16;
/// A bucket grows by so many places.
const BUCKET_GROWTH: usize = 5;
/// No place in the slab: there are fewer, see [`MAX_BUCKETS`].
const NONE: u16 = u16::MAX;

/// Counts the upkeep rounds of a node.
pub type Tick = u32;

/// A node we know, and what a generation notes about it: v2 our own address as the node sees it, by its last answer; v4 the
/// tick in which what it says of that was last taken as a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact<N = SocketAddrV4> {
    /// Its id.
    pub id: NodeId,
    /// Where it answers.
    pub addr: SocketAddrV4,
    /// See above.
    pub note: Option<N>,
    /// When it became known.
    pub added: Tick,
    /// When it was last heard or asked whether it lives.
    pub pinged: Tick,
}

/// What became of a node that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<N = SocketAddrV4> {
    /// It is in the table now, at the end of its bucket.
    Kept,
    /// Our own id, or an id known at another address: nothing changed.
    Ignored,
    /// Its bucket is full; these are its longest-unheard nodes, at most three.
    Full(Vec<Contact<N>>),
    /// Its bucket is full of nodes of one host or network, and one of them gives way once this one has answered.
    Unproven,
}

/// The nodes we know.
pub struct Table<N = SocketAddrV4> {
    own: NodeId,
    /// Places in the slab, the longest unheard first.
    buckets: Vec<Vec<u16>>,
    slab: Vec<Slot<N>>,
    /// The first of the places that are free; each leads to the next as `newer`.
    free: u16,
    len: usize,
    oldest: u16,
    latest: u16,
}

/// A contact and its neighbours in the order of last contact.
#[derive(Clone, Copy)]
struct Slot<N> {
    contact: Contact<N>,
    older: u16,
    newer: u16,
}

impl<N: Copy> Table<N> {
    /// An empty table around our own id.
    pub fn new(own: NodeId) -> Self {
        let buckets = vec![Vec::new()];
        Self { own, buckets, slab: Vec::new(), free: NONE, len: 0, oldest: NONE, latest: NONE }
    }

    /// Our own id.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The node with this id.
    pub fn find(&self, id: &NodeId) -> Option<&Contact<N>> {
        self.contact(self.place_of(id)?)
    }

    /// The node with this id, to note what was done about it. Its id and address must stay.
    pub fn find_mut(&mut self, id: &NodeId) -> Option<&mut Contact<N>> {
        let place = self.place_of(id)?;
        self.slab.get_mut(usize::from(place)).map(|slot| &mut slot.contact)
    }

    /// A node was heard (dht-rpc `_addNode`). `proven` says it answered a request of ours; only then may it change
    /// the address of a known id and the note: anybody can send a query in another's name.
    pub fn heard(
        &mut self,
        id: NodeId,
        addr: SocketAddrV4,
        note: Option<N>,
        tick: Tick,
        proven: bool,
    ) -> Heard<N> {
        if id == self.own {
            return Heard::Ignored;
        }
        let note = if proven { note } else { None };
        if let Some(place) = self.place_of(&id) {
            let Some(slot) = self.slab.get_mut(usize::from(place)) else { return Heard::Ignored };
            let contact = &mut slot.contact;
            if contact.addr != addr && !proven {
                return Heard::Ignored;
            }
            (contact.addr, contact.note) = (addr, note.or(contact.note));
            contact.pinged = tick;
            self.refresh(&id);
            self.unlink(place);
            self.link(place);
            return Heard::Kept;
        }
        if let Some(candidates) = self.make_room(&id) {
            match self.crowded(&id, *addr.ip()) {
                Some(yielding) if proven => self.remove(&yielding),
                Some(_) => return Heard::Unproven,
                None => return Heard::Full(candidates),
            }
        }
        self.insert(Contact { id, addr, note, added: tick, pinged: tick });
        Heard::Kept
    }

    /// Moves a node to the end of its bucket without having heard it (k-bucket `add` of a known contact).
    pub fn refresh(&mut self, id: &NodeId) {
        let Some(place) = self.place_of(id) else { return };
        let at = self.bucket_of(id);
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.retain(|other| *other != place);
            bucket.push(place);
        }
    }

    /// Forgets the node with this id.
    pub fn remove(&mut self, id: &NodeId) {
        let Some(place) = self.place_of(id) else { return };
        let at = self.bucket_of(id);
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.retain(|other| *other != place);
        }
        self.unlink(place);
        if let Some(slot) = self.slab.get_mut(usize::from(place)) {
            slot.newer = std::mem::replace(&mut self.free, place);
            self.len -= 1;
        }
    }

    /// Forgets the node only if it is known at this address: what others say about an id must not remove it.
    pub fn remove_at(&mut self, id: &NodeId, addr: SocketAddrV4) {
        if self.find(id).is_some_and(|c| c.addr == addr) {
            self.remove(id);
        }
    }

    /// The `count` nodes nearest to `target`, nearest first, in exact XOR order; with few of one host and network, as
    /// long as others are known: see [`Diverse`].
    pub fn closest(&self, target: &[u8; 32], count: usize) -> Vec<&Contact<N>> {
        let mut chosen = Diverse::new(count);
        // Nodes of the bucket that shares most bits with the target are nearest, then those of the buckets after
        // it (all equally far up to their own bits), then the buckets before it, the last first.
        let home = self.bucket_of(&NodeId(*target));
        let near = [home..home + 1, home + 1..self.buckets.len()];
        let groups = near.into_iter().chain((0..home).rev().map(|before| before..before + 1));
        for group in groups {
            let mut group: Vec<&Contact<N>> = group.flat_map(|at| self.bucket(at)).collect();
            group.sort_unstable_by(|a, b| by_distance(target, &a.id, &b.id));
            group.into_iter().for_each(|contact| chosen.offer(*contact.addr.ip(), contact));
            if chosen.is_full() {
                break;
            }
        }
        let mut chosen = chosen.finish();
        chosen.sort_unstable_by(|a, b| by_distance(target, &a.id, &b.id));
        chosen
    }

    /// Addresses of the nodes nearest to `target`, like [`Self::closest`], into `out`; how many there are. Mostly they are
    /// one full bucket, in which no host or network has too much: then nothing is allocated.
    pub fn closest_addresses(&self, target: &[u8; 32], out: &mut [SocketAddrV4; MAX_BUCKET_NODES]) -> usize {
        if self.sort_bucket(target, out).is_some() {
            return out.len();
        }
        let closest = self.closest(target, out.len());
        out.iter_mut().zip(&closest).for_each(|(slot, contact)| *slot = contact.addr);
        closest.len()
    }

    /// The addresses of the bucket of `target`, nearest first; none if there is more to look at.
    fn sort_bucket(&self, target: &[u8; 32], out: &mut [SocketAddrV4; MAX_BUCKET_NODES]) -> Option<()> {
        let home = self.bucket_of(&NodeId(*target));
        let mut nodes = [(0, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); MAX_BUCKET_NODES];
        if self.buckets.get(home)?.len() < nodes.len() {
            return None;
        }
        for (slot, contact) in nodes.iter_mut().zip(self.bucket(home)) {
            // Eight bytes tell them apart but for one time in 2^57.
            let (id, target) = (contact.id.0.first_chunk()?, target.first_chunk()?);
            *slot = (u64::from_be_bytes(*id) ^ u64::from_be_bytes(*target), contact.addr);
        }
        nodes.sort_unstable_by_key(|(distance, _)| *distance);
        let hosts = nodes.map(|(_, addr)| *addr.ip());
        let equal = nodes.windows(2).any(|pair| matches!(pair, [one, other] if one.0 == other.0));
        if equal || !is_diverse(&hosts) {
            return None;
        }
        out.iter_mut().zip(nodes).for_each(|(slot, (_, addr))| *slot = addr);
        Some(())
    }

    /// All nodes, longest unheard first.
    pub fn oldest_first(&self) -> impl Iterator<Item = &Contact<N>> {
        self.walk(self.oldest, |slot| slot.newer)
    }

    /// All nodes, latest heard first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Contact<N>> {
        self.walk(self.latest, |slot| slot.older)
    }

    /// The nodes that share a bucket with this id, the longest unheard first.
    pub fn beside(&self, id: &NodeId) -> impl Iterator<Item = &Contact<N>> {
        self.bucket(self.bucket_of(id))
    }

    /// One of the nodes, each as likely as any other.
    pub fn random(&self, rng: &mut StdRng) -> Option<&Contact<N>> {
        let mut left = rng.random_range(0..self.len.max(1));
        for bucket in &self.buckets {
            if let Some(place) = bucket.get(left) {
                return self.contact(*place);
            }
            left -= bucket.len();
        }
        None
    }

    /// Builds the table anew around another id of ours, of the same nodes as far as there is room for them.
    pub fn recentre(&mut self, own: NodeId) {
        let contacts: Vec<Contact<N>> = self.oldest_first().copied().collect();
        *self = Self::new(own);
        for contact in contacts {
            if contact.id != own && self.make_room(&contact.id).is_none() {
                self.insert(contact);
            }
        }
    }

    fn contact(&self, place: u16) -> Option<&Contact<N>> {
        self.slab.get(usize::from(place)).map(|slot| &slot.contact)
    }

    fn bucket(&self, at: usize) -> impl Iterator<Item = &Contact<N>> {
        self.buckets.get(at).into_iter().flatten().filter_map(|place| self.contact(*place))
    }

    fn place_of(&self, id: &NodeId) -> Option<u16> {
        let bucket = self.buckets.get(self.bucket_of(id))?;
        bucket.iter().copied().find(|place| self.contact(*place).is_some_and(|contact| contact.id == *id))
    }

    fn bucket_of(&self, id: &NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len() - 1)
    }

    fn walk(&self, from: u16, next: impl Fn(&Slot<N>) -> u16) -> impl Iterator<Item = &Contact<N>> {
        let slots = std::iter::successors(self.slab.get(usize::from(from)), move |slot| {
            self.slab.get(usize::from(next(slot)))
        });
        slots.map(|slot| &slot.contact)
    }

    /// Adds a node that is not in the table to a bucket with room, as the latest.
    fn insert(&mut self, contact: Contact<N>) {
        let slot = Slot { contact, older: NONE, newer: NONE };
        let place = match self.slab.get_mut(usize::from(self.free)) {
            Some(free) => {
                let place = std::mem::replace(&mut self.free, free.newer);
                *free = slot;
                place
            }
            None => {
                if self.slab.len() == self.slab.capacity() {
                    self.slab.reserve_exact(GROWTH);
                }
                self.slab.push(slot);
                // Full buckets make fewer than 65,535.
                u16::try_from(self.slab.len() - 1).unwrap_or(NONE)
            }
        };
        let at = self.bucket_of(&contact.id);
        if let Some(bucket) = self.buckets.get_mut(at) {
            // No room is kept that is never used: most buckets are full.
            bucket.reserve_exact(usize::from(bucket.len() == bucket.capacity()) * BUCKET_GROWTH);
            bucket.push(place);
        }
        self.link(place);
        self.len += 1;
    }

    /// Appends a place to the order of last contact.
    fn link(&mut self, place: u16) {
        let before = std::mem::replace(&mut self.latest, place);
        if let Some(slot) = self.slab.get_mut(usize::from(place)) {
            (slot.older, slot.newer) = (before, NONE);
        }
        match self.slab.get_mut(usize::from(before)) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
    }

    /// Takes a place out of the order of last contact.
    fn unlink(&mut self, place: u16) {
        let Some(Slot { older, newer, .. }) = self.slab.get(usize::from(place)).copied() else { return };
        match self.slab.get_mut(usize::from(older)) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slab.get_mut(usize::from(newer)) {
            Some(slot) => slot.older = older,
            None => self.latest = older,
        }
    }

    /// The longest-unheard node in the full bucket of `id` that has to give way to a node of `host`: one host cannot fill
    /// a bucket when others come.
    fn crowded(&self, id: &NodeId, host: Ipv4Addr) -> Option<NodeId> {
        let tally: Tally = self.beside(id).map(|contact| *contact.addr.ip()).collect();
        self.beside(id).find(|contact| tally.must_yield(*contact.addr.ip(), host)).map(|contact| contact.id)
    }

    /// Splits the own bucket until there is room for `id`; otherwise names the nodes that could make room.
    fn make_room(&mut self, id: &NodeId) -> Option<Vec<Contact<N>>> {
        loop {
            let at = self.bucket_of(id);
            let last = self.buckets.len() - 1;
            let may_split = at == last && self.buckets.len() < MAX_BUCKETS;
            if self.buckets.get(at)?.len() < MAX_BUCKET_NODES {
                return None;
            }
            if !may_split {
                return Some(self.bucket(at).take(CANDIDATES).copied().collect());
            }
            let bucket = std::mem::take(self.buckets.get_mut(at)?);
            let is_near = |place: &u16| {
                self.contact(*place).is_some_and(|contact| self.own.shared_bits(&contact.id) > last)
            };
            let (near, mut far): (Vec<u16>, Vec<u16>) = bucket.into_iter().partition(is_near);
            far.shrink_to_fit();
            *self.buckets.get_mut(at)? = far;
            self.buckets.reserve_exact(1);
            self.buckets.push(near);
        }
    }
}

#[cfg(test)]
mod tests;
