//! One connection attempt (hyperdht `lib/connect.js`): find relays of the peer, send it a handshake through them, and open
//! a way to it.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::addresses::{is_bogon, is_reserved, nearest};
use super::error::{ConnectError, HolepunchError};
use super::handshake::{Opening, PeerInfo};
use super::rounds::{Progress, Rounds};
use super::routes::Routes;
use super::{Action, Connect, Context, Role};
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, Firewall, Handshake, Mode, NoisePayload, PeerError};
use crate::crypto::PublicKey;
use crate::crypto::noise::Keys;
use crate::dht::guard::is_sane;
use crate::dht::hyperdht::{Answer, FoundPeer, OperationId, Plain, RequestId, Target};
use crate::dht::rpc::Via;
use crate::dht::v4::SERVER;
use crate::limits::v4::MAX_EARLY_PACKETS;

/// How long to wait for the first packet of a peer that is to be reached without a hole punch, as upstream.
const FIRST_PACKET: Duration = Duration::from_secs(10);
/// How long a whole attempt takes at most, once the peer has answered: a hole punch through a random NAT, and its delay.
const WHOLE: Duration = Duration::from_secs(60);
/// After these times without an answer, the first packet of a stream is sent again: the peer's NAT may have opened since.
const NUDGES_MILLIS: [u64; 7] = [50, 100, 200, 400, 800, 1600, 3200];

/// How to connect.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Relays of the peer that are known; tried first.
    pub relay_addresses: Vec<SocketAddrV4>,
    /// Tell the peer our addresses in the local network, and try its own (`localConnection`).
    pub local: bool,
    /// Try the address at which the relay sees the peer at once, before both ends have agreed to punch (`fastOpen`).
    pub fast_open: bool,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { relay_addresses: Vec::new(), local: true, fast_open: true }
    }
}

/// An attempt.
pub(super) struct Dial {
    role: Role,
    pub(super) remote: PublicKey,
    target: Target,
    pub(super) stream: u32,
    options: DialOptions,
    opening: Opening,
    we_are_open: bool,
    routes: Routes,
    meeting: Option<Meeting>,
    /// Packets for our stream that came before the reply.
    early: Vec<(Via, SocketAddrV4, Bytes)>,
    end: Option<Result<(), ConnectError>>,
}

/// What is known after the handshake.
struct Meeting {
    server: PeerInfo,
    remote_stream: u32,
    /// Given away with the first way.
    keys: Option<Keys>,
    relay: SocketAddrV4,
    /// Where to try first.
    server_address: SocketAddrV4,
    /// The way that the stream takes.
    way: Option<(Via, SocketAddrV4)>,
    way_since: Instant,
    nudges: usize,
    lan: Option<(RequestId, SocketAddrV4)>,
    rounds: Option<Rounds>,
    until: Instant,
}

impl Dial {
    pub(super) fn new(
        context: &mut Context<'_>,
        role: Role,
        (remote, target, stream): (PublicKey, Target, u32),
        opening: Opening,
        options: DialOptions,
    ) -> Self {
        let mut dial = Self {
            role,
            remote,
            target,
            stream,
            opening,
            we_are_open: context.dht.node().remote_address().is_some(),
            routes: Routes::default(),
            meeting: None,
            early: Vec::new(),
            end: None,
            options,
        };
        let known = std::mem::take(&mut dial.options.relay_addresses);
        known.iter().for_each(|relay| dial.routes.add(*relay));
        dial.routes.walks_again = !known.is_empty();
        dial.routes.walk = Some(context.dht.find_peer(context.now, target, &known));
        dial.advance(context);
        dial
    }

    /// How it has ended, if it has.
    pub(super) fn end(&self) -> Option<Result<(), ConnectError>> {
        self.end
    }

    /// Relays through which the peer may be reached the next time.
    pub(super) fn relays(&self) -> &[SocketAddrV4] {
        match &self.meeting {
            Some(meeting) if !meeting.server.relay_addresses.is_empty() => &meeting.server.relay_addresses,
            _ => self.routes.tried(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let Some(meeting) = &self.meeting else { return self.routes.poll_timeout() };
        let nudge = meeting.way.map(|_| meeting.next_nudge());
        let rounds = meeting.rounds.as_ref().and_then(Rounds::poll_timeout);
        [Some(meeting.until), nudge, rounds].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        self.advance(context);
        let Some(meeting) = &mut self.meeting else { return };
        if meeting.way.is_some() && context.now >= meeting.next_nudge() {
            meeting.nudges += 1;
            context.out.act(Action::Nudge(self.stream));
        }
        let progress = match &mut meeting.rounds {
            Some(rounds) => rounds.handle_timeout(context),
            None => Progress::Going,
        };
        self.punched(context, progress);
        let Some(meeting) = &self.meeting else { return };
        if context.now >= meeting.until {
            self.fail(context, HolepunchError::Silence.into());
        }
    }

    /// A node knows the peer.
    pub(super) fn found(
        &mut self,
        context: &mut Context<'_>,
        operation: OperationId,
        found: &FoundPeer,
    ) -> bool {
        let ours = self.routes.walk == Some(operation);
        if ours && self.meeting.is_none() {
            self.routes.is_known = true;
            self.routes.add(found.from);
            self.advance(context);
        }
        ours
    }

    /// A walk has ended.
    pub(super) fn walked(&mut self, context: &mut Context<'_>, operation: OperationId) -> bool {
        let ours = self.routes.walk == Some(operation);
        if ours {
            self.routes.walk = None;
            if std::mem::take(&mut self.routes.walks_again) && self.meeting.is_none() {
                self.routes.walk = Some(context.dht.find_peer(context.now, self.target, &[]));
            }
            self.advance(context);
        }
        ours
    }

    /// A request has ended; none: nobody answered. Returns false if it was not of this attempt.
    pub(super) fn answered(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        answer: Option<&Answer>,
    ) -> bool {
        if let Some(relay) = self.routes.ended(request) {
            if let Some(answer) = answer.filter(|_| self.meeting.is_none()) {
                self.replied(context, relay, answer);
            }
            self.advance(context);
            return true;
        }
        let Some(meeting) = &mut self.meeting else { return false };
        if let Some((_, address)) = meeting.lan.take_if(|(lan, _)| *lan == request) {
            match answer {
                Some(_) => self.go(context, SERVER, address),
                None if meeting.rounds.is_none() => self.fail(context, HolepunchError::Silence.into()),
                None => {}
            }
            return true;
        }
        match meeting.rounds.as_mut().and_then(|rounds| rounds.answered(context, request, answer)) {
            Some(progress) => {
                self.punched(context, progress);
                true
            }
            None => false,
        }
    }

    /// A probe arrived. Returns false if it cannot be for this attempt.
    pub(super) fn probed(&mut self, context: &mut Context<'_>, via: Via, from: SocketAddrV4) -> bool {
        let meant = self.meeting.as_ref().is_some_and(|meeting| {
            let rounds = meeting.rounds.as_ref();
            rounds.is_some_and(|rounds| rounds.may_probe(*from.ip()))
        });
        if meant {
            self.go(context, via, from);
            context.out.act(Action::Nudge(self.stream));
        }
        meant
    }

    /// A packet for our stream arrived before the stream was connected.
    pub(super) fn contacted(
        &mut self,
        context: &mut Context<'_>,
        via: Via,
        from: SocketAddrV4,
        packet: &[u8],
    ) {
        let packet = Bytes::copy_from_slice(packet);
        match &self.meeting {
            // The owner has yet to open the stream.
            Some(meeting) if meeting.keys.is_none() => {
                context.out.act(Action::Deliver { via, from, packet });
            }
            Some(_) => {
                self.early.push((via, from, packet));
                self.go(context, via, from);
            }
            None if self.early.len() < MAX_EARLY_PACKETS => self.early.push((via, from, packet)),
            None => {}
        }
    }

    #[cfg(test)]
    pub(super) fn early_packets(&self) -> usize {
        self.early.len()
    }

    /// The peer has been heard on the connected stream: all is well.
    pub(super) fn heard(&mut self, context: &mut Context<'_>, via: Via) {
        self.end = Some(Ok(()));
        self.release(context, Some(via));
    }

    /// The owner does not want it any more.
    pub(super) fn cancel(&mut self, context: &mut Context<'_>) {
        self.release(context, None);
    }

    /// Sends the handshake to whoever may be asked; ends the attempt if nobody is left.
    fn advance(&mut self, context: &mut Context<'_>) {
        if self.meeting.is_some() || self.end.is_some() {
            return;
        }
        while let Some(relay) = self.routes.next(context.now) {
            let mut writer = Writer::new();
            let noise = self.opening.message();
            let (peer_address, relay_address) = (None, None);
            Handshake { mode: Mode::FROM_CLIENT, noise, peer_address, relay_address }.encode(&mut writer);
            let plain = Plain {
                target: Some(self.target),
                value: Some(writer.as_slice().to_vec().into()),
                ..Plain::new(relay, Command::PEER_HANDSHAKE)
            };
            let request = context.dht.request(context.now, plain);
            self.routes.asked(context.now, request, relay);
        }
        if self.routes.are_exhausted() {
            let error = if self.routes.is_known { ConnectError::NoAnswer } else { ConnectError::NotFound };
            self.fail(context, error);
        }
    }

    /// A relay, or the server itself, has answered the handshake. An answer that cannot be read is ignored: another relay
    /// may have the right one.
    fn replied(&mut self, context: &mut Context<'_>, relay: SocketAddrV4, answer: &Answer) {
        let Some(Ok(reply)) = answer.value.as_deref().map(Handshake::decode) else { return };
        let address = reply.peer_address.unwrap_or(answer.from);
        if reply.mode != Mode::REPLY || reply.noise.is_empty() || !is_sane(address, *answer.from.ip()) {
            return;
        }
        let Ok((plaintext, keys)) = self.opening.read(reply.noise) else { return };
        let Ok(payload) = NoisePayload::decode(&plaintext) else { return };
        let server = PeerInfo::read(&payload);
        if let Some(walk) = self.routes.walk.take() {
            context.dht.cancel(context.now, walk);
        }
        match server.stream {
            _ if server.version != NoisePayload::VERSION => self.fail(context, ConnectError::Incompatible),
            _ if server.error != PeerError::NONE => {
                self.fail(context, ConnectError::Refused(server.error.0));
            }
            None => self.fail(context, ConnectError::Refused(PeerError::ABORTED.0)),
            Some(remote_stream) => {
                self.meeting = Some(Meeting {
                    server,
                    remote_stream,
                    keys: Some(keys),
                    relay,
                    server_address: address,
                    way: None,
                    way_since: context.now,
                    nudges: 0,
                    lan: None,
                    rounds: None,
                    until: context.now + FIRST_PACKET,
                });
                self.meet(context, reply.peer_address.is_some(), answer.to);
            }
        }
    }

    /// The peer has answered: decides how to reach it (hyperdht `holepunch` in `lib/connect.js`).
    fn meet(&mut self, context: &mut Context<'_>, relayed: bool, seen_at: SocketAddrV4) {
        let asking = context.dht.node().asking();
        // The server was faster than the relay.
        if let Some((via, from, _)) = self.early.first() {
            return self.go(context, *via, *from);
        }
        let Some(meeting) = &self.meeting else { return };
        let (relay, server_address) = (meeting.relay, meeting.server_address);
        if !relayed {
            return self.go(context, asking, relay);
        }
        let relays = meeting.server.holepunch.as_ref().filter(|(_, relays)| !relays.is_empty());
        if meeting.server.firewall == Firewall::OPEN || relays.is_none() && server_address != relay {
            let public = meeting.server.addresses4.iter().find(|address| !is_bogon(*address.ip()));
            let address = public.copied().unwrap_or(server_address);
            return self.go(context, asking, address);
        }
        // The server has our address, and sends to it.
        if self.we_are_open {
            return;
        }
        let relays = relays.cloned();
        self.try_local_network(context, seen_at);
        match relays {
            Some((id, relays)) => self.punch(context, id, &relays),
            None if self.meeting.as_ref().is_some_and(|meeting| meeting.lan.is_some()) => {}
            None => self.fail(context, ConnectError::CannotHolepunch),
        }
    }

    /// A peer behind the same address may be in the same local network: asks it there.
    fn try_local_network(&mut self, context: &mut Context<'_>, seen_at: SocketAddrV4) {
        let Some(meeting) = &mut self.meeting else { return };
        if !self.options.local || seen_at.ip() != meeting.server_address.ip() {
            return;
        }
        let theirs = || {
            let listed = meeting.server.addresses4.iter().copied();
            listed.filter(|address| !is_reserved(*address.ip()) && is_sane(*address, *seen_at.ip()))
        };
        let ours = context.local_addresses();
        if let Some(address) = nearest(&ours, theirs()).or_else(|| theirs().next()) {
            let ping = context.dht.request(context.now, Plain::new(address, Command::PING));
            meeting.lan = Some((ping, address));
        }
    }

    fn punch(&mut self, context: &mut Context<'_>, id: u64, relays: &[crate::codec::v4::RelayInfo]) {
        let Some(meeting) = &mut self.meeting else { return };
        let Some(keys) = &meeting.keys else { return };
        let picked = relays.iter().find(|relay| relay.relay_address == meeting.relay).or(relays.first());
        let Some(server_relay) = picked.copied() else { return };
        let addresses = (meeting.relay, meeting.server_address);
        let hash = &keys.handshake_hash;
        let mut rounds = Rounds::new(context, self.target, hash, id, (server_relay, addresses));
        rounds.begin(context, self.options.fast_open);
        meeting.rounds = Some(rounds);
        meeting.until = context.now + WHOLE;
        if self.options.fast_open {
            // A peer of this program has opened its NAT with its reply, so that this may get through at once.
            let (via, address) = (context.dht.node().asking(), meeting.server_address);
            self.go(context, via, address);
        }
    }

    /// The stream takes this way from now on.
    fn go(&mut self, context: &mut Context<'_>, via: Via, to: SocketAddrV4) {
        let Some(meeting) = &mut self.meeting else { return };
        let stream = self.stream;
        let before = meeting.way.replace((via, to));
        if before == Some((via, to)) {
            return;
        }
        (meeting.way_since, meeting.nudges) = (context.now, 0);
        match meeting.keys.take() {
            Some(keys) => {
                let (remote_stream, role) = (meeting.remote_stream, self.role);
                let connect = Connect { stream, remote_stream, via, to, keys, role };
                context.out.act(Action::Connect(Box::new(connect)));
                for (via, from, packet) in self.early.drain(..) {
                    context.out.act(Action::Deliver { via, from, packet });
                }
            }
            None => {
                context.out.act(Action::Reroute { stream, remote_stream: meeting.remote_stream, via, to })
            }
        }
    }

    fn punched(&mut self, context: &mut Context<'_>, progress: Progress) {
        match progress {
            Progress::Going => {}
            Progress::Reach(via, to) => self.go(context, via, to),
            // The other ways may still lead there.
            Progress::Failed(_) if self.meeting.as_ref().is_some_and(|meeting| meeting.lan.is_some()) => {
                if let Some(meeting) = &mut self.meeting {
                    meeting.rounds = None;
                    meeting.until = meeting.until.min(context.now + FIRST_PACKET);
                }
            }
            Progress::Failed(cause) => self.fail(context, cause.into()),
        }
    }

    fn fail(&mut self, context: &mut Context<'_>, error: ConnectError) {
        if self.end.is_none() {
            self.end = Some(Err(error));
            self.release(context, None);
        }
    }

    /// Ends what is under way; a socket that is used stays open.
    fn release(&mut self, context: &mut Context<'_>, used: Option<Via>) {
        if let Some(walk) = self.routes.walk.take() {
            context.dht.cancel(context.now, walk);
        }
        if let Some(rounds) = self.meeting.as_mut().and_then(|meeting| meeting.rounds.take()) {
            rounds.close(context, used);
        }
    }
}

impl Meeting {
    fn next_nudge(&self) -> Instant {
        let last = NUDGES_MILLIS.len() - 1;
        let at = NUDGES_MILLIS.get(self.nudges.min(last)).copied().unwrap_or_default();
        // After the last one, the same pause again and again.
        let more = self.nudges.saturating_sub(last) as u64 * at;
        self.way_since + Duration::from_millis(at + more)
    }
}
