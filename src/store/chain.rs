//! SHA-1 as a chain of states: `state[i+1] = compress(state[i], chunk[i])`, one state before every chunk of 1 MiB.
//! With them each chunk of a file that is named only by its SHA-1 can be checked alone.

use std::fmt;

use super::Sha1;

/// Bytes per chunk.
pub const CHUNK: u64 = 1 << 20;
const BLOCK: usize = 64;
const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// A SHA-1 chaining value, big-endian words as in a digest.
pub type ChainState = [u8; 20];

/// The number of chunks, and so of states, of a file of `size` bytes.
pub fn chunk_count(size: u64) -> u64 {
    size.div_ceil(CHUNK)
}

/// The state after one whole chunk, given the state before it.
pub(super) fn advance(before: &ChainState, chunk: &[u8]) -> ChainState {
    let mut state = from_bytes(before);
    sha1::block_api::compress(&mut state, chunk.as_chunks::<BLOCK>().0);
    to_bytes(state)
}

/// Hashes a stream and keeps the state before every chunk.
#[derive(Clone)]
pub(super) struct ChainHasher {
    state: [u32; 5],
    pending: [u8; BLOCK],
    length: u64,
    states: Vec<ChainState>,
}

impl Default for ChainHasher {
    fn default() -> Self {
        ChainHasher { state: INITIAL, pending: [0; BLOCK], length: 0, states: Vec::new() }
    }
}

impl fmt::Debug for ChainHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainHasher").field("length", &self.length).finish_non_exhaustive()
    }
}

fn to_bytes(state: [u32; 5]) -> ChainState {
    let mut bytes = [0; 20];
    for (to, word) in bytes.chunks_exact_mut(4).zip(state) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

fn from_bytes(bytes: &ChainState) -> [u32; 5] {
    let (words, _) = bytes.as_chunks::<4>();
    let mut state = [0; 5];
    for (to, word) in state.iter_mut().zip(words) {
        *to = u32::from_be_bytes(*word);
    }
    state
}

impl ChainHasher {
    /// Continues before chunk number `states.len() - 1`, whose state is the last one given; the states before it
    /// are those of the chunks before. No states: starts anew.
    pub(super) fn resume(mut states: Vec<ChainState>) -> Self {
        match states.pop() {
            None => ChainHasher::default(),
            Some(last) => ChainHasher {
                state: from_bytes(&last),
                pending: [0; BLOCK],
                length: states.len() as u64 * CHUNK,
                states,
            },
        }
    }

    /// Bytes hashed so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// One state per chunk begun.
    pub(super) fn states(&self) -> &[ChainState] {
        &self.states
    }

    pub(super) fn into_states(self) -> Vec<ChainState> {
        self.states
    }

    /// Is this the state at the present length, which is at the start of a chunk?
    pub(super) fn is_at(&self, start: u64, state: &ChainState) -> bool {
        self.length == start && start.is_multiple_of(CHUNK) && to_bytes(self.state) == *state
    }

    /// As [`ChainHasher::update`] with a whole chunk that [`advance`] says leads from [`ChainHasher::is_at`] to `after`.
    pub(super) fn adopt(&mut self, after: &ChainState) {
        self.states.push(to_bytes(self.state));
        self.state = from_bytes(after);
        self.length += CHUNK;
    }

    /// Goes back to the start of the chunk that contains `offset`; does nothing if that was not hashed yet.
    pub(super) fn rewind(&mut self, offset: u64) {
        if offset < self.length {
            let keep = usize::try_from(offset / CHUNK + 1).unwrap_or(usize::MAX);
            let mut states = std::mem::take(&mut self.states);
            states.truncate(keep);
            *self = ChainHasher::resume(states);
        }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let in_chunk = self.length % CHUNK;
            if in_chunk == 0 {
                self.states.push(to_bytes(self.state));
            }
            let room = usize::try_from(CHUNK - in_chunk).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.update_in_chunk(now);
            bytes = later;
        }
    }

    fn update_in_chunk(&mut self, bytes: &[u8]) {
        let filled = (self.length % BLOCK as u64) as usize;
        self.length += bytes.len() as u64;
        let mut rest = bytes;
        if filled > 0 {
            let (first, later) = bytes.split_at(bytes.len().min(BLOCK - filled));
            for (to, from) in self.pending.iter_mut().skip(filled).zip(first) {
                *to = *from;
            }
            if filled + first.len() < BLOCK {
                return;
            }
            sha1::block_api::compress(&mut self.state, &[self.pending]);
            rest = later;
        }
        let (blocks, tail) = rest.as_chunks::<BLOCK>();
        sha1::block_api::compress(&mut self.state, blocks);
        for (to, from) in self.pending.iter_mut().zip(tail) {
            *to = *from;
        }
    }

    /// The SHA-1 of everything so far; more may follow.
    pub(super) fn digest(&self) -> Sha1 {
        let filled = (self.length % BLOCK as u64) as usize;
        let mut blocks = [0; 2 * BLOCK];
        for (to, from) in blocks.iter_mut().zip(self.pending.iter().take(filled).chain(&[0x80])) {
            *to = *from;
        }
        let bits = self.length.wrapping_mul(8).to_be_bytes();
        let used = if filled + 9 <= BLOCK { BLOCK } else { 2 * BLOCK };
        for (to, from) in blocks.iter_mut().skip(used - 8).zip(bits) {
            *to = from;
        }
        let mut state = self.state;
        let (blocks, _) = blocks.as_chunks::<BLOCK>();
        sha1::block_api::compress(&mut state, blocks.get(..used / BLOCK).unwrap_or(blocks));
        Sha1(to_bytes(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha1::Digest;

    fn plain(bytes: &[u8]) -> Sha1 {
        Sha1(sha1::Sha1::digest(bytes).into())
    }

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[test]
    fn the_digest_is_sha1_for_every_length_around_block_and_chunk_borders() {
        let bytes = sample(CHUNK as usize + 200);
        let lengths = (0..200).chain(CHUNK as usize - 3..CHUNK as usize + 130);
        for length in lengths {
            let mut hasher = ChainHasher::default();
            for piece in bytes[..length].chunks(length / 3 + 1) {
                hasher.update(piece);
            }
            assert_eq!(hasher.digest(), plain(&bytes[..length]), "length {length}");
            assert_eq!(hasher.states().len() as u64, chunk_count(length as u64));
        }
    }

    #[test]
    fn hashing_resumes_from_any_state() {
        let bytes = sample(3 * CHUNK as usize + 77);
        let mut whole = ChainHasher::default();
        whole.update(&bytes);
        for chunk in 0..4 {
            let mut resumed = ChainHasher::resume(whole.states()[..=chunk].to_vec());
            assert_eq!(resumed.length(), chunk as u64 * CHUNK);
            resumed.update(&bytes[chunk * CHUNK as usize..]);
            assert_eq!((resumed.digest(), resumed.states()), (plain(&bytes), whole.states()));
        }
    }

    #[test]
    fn a_chunk_leads_from_the_state_before_it_to_the_one_after_it() {
        let bytes = sample(2 * CHUNK as usize + 5);
        let mut whole = ChainHasher::default();
        whole.update(&bytes);
        let mut adopting = ChainHasher::default();
        for (chunk, states) in bytes.chunks_exact(CHUNK as usize).zip(whole.states().windows(2)) {
            assert_eq!(advance(&states[0], chunk), states[1]);
            assert!(adopting.is_at(adopting.length(), &states[0]) && !adopting.is_at(1, &states[0]));
            adopting.adopt(&states[1]);
        }
        adopting.update(&bytes[2 * CHUNK as usize..]);
        assert_eq!((adopting.digest(), adopting.states()), (plain(&bytes), whole.states()));
    }

    #[test]
    fn rewinding_goes_to_the_start_of_the_chunk() {
        let bytes = sample(2 * CHUNK as usize + 5);
        let mut hasher = ChainHasher::default();
        hasher.update(&bytes);
        hasher.rewind(CHUNK + 9);
        assert_eq!(hasher.length(), CHUNK);
        hasher.update(&bytes[CHUNK as usize..]);
        assert_eq!(hasher.digest(), plain(&bytes));
        hasher.rewind(u64::MAX);
        assert_eq!(hasher.length(), bytes.len() as u64);
    }
}
