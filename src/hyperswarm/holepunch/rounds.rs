//! The client's side of a hole punch: what it asks the server through its relays (hyperdht `probeRound`, `roundPunch`),
//! and the punch itself.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::Context;
use super::error::HolepunchError;
use super::puncher::{Probe, Puncher};
use super::remote::{Remote, Saying, seal};
use super::strategy::{self, Hopeless, Plan, keeps_ports};
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, Firewall, Holepunch, HolepunchPayload, Mode, PeerError, RelayInfo};
use crate::crypto::v4::{SecurePayload, holepunch_secret, host_token};
use crate::dht::hyperdht::{Answer, Plain, RequestId, Target};
use crate::dht::rpc::Via;

/// Time for a server that does not know its NAT yet, as upstream.
const SETTLE: Duration = Duration::from_secs(1);
/// Time for nodes to say how they see our socket.
const CLASSIFY: Duration = Duration::from_secs(2);
/// Pause before the next try when either end makes another burst of probes now.
const LATER_MILLIS: std::ops::Range<u64> = 1000..2000;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Going,
    /// The peer can be reached this way, without a probe.
    Reach(Via, SocketAddrV4),
    Failed(HolepunchError),
}

/// A hole punch of a client.
pub(super) struct Rounds {
    target: Target,
    secure: SecurePayload,
    secret: [u8; 32],
    id: u64,
    /// The server's relay, and the one that passed our handshake on.
    server_relay: RelayInfo,
    client_relay: SocketAddrV4,
    server_address: SocketAddrV4,
    remote: Remote,
    round: u64,
    /// From the server, for the round in which we punch.
    token: Option<[u8; 32]>,
    /// The server as its relay saw it when it answered.
    answered_from: Option<SocketAddrV4>,
    repeated: bool,
    step: Step,
}

enum Step {
    /// The server is asked what it knows of its NAT.
    Asking(RequestId),
    /// Both ends have time to find out.
    Settling {
        at_least: Instant,
        at_most: Instant,
    },
    /// Another burst of probes is under way.
    Waiting(Instant),
    /// The server is told that we punch.
    Telling(RequestId),
    Punching(Puncher),
    Over,
}

impl Rounds {
    /// `addresses`: the relay that passed our handshake on, and the server as it saw it.
    pub(super) fn new(
        context: &mut Context<'_>,
        target: Target,
        handshake_hash: &[u8; 64],
        id: u64,
        (server_relay, addresses): (RelayInfo, (SocketAddrV4, SocketAddrV4)),
    ) -> Self {
        let mut secret = [0; 32];
        context.rng.fill_bytes(&mut secret);
        let (client_relay, server_address) = addresses;
        Self {
            target,
            secure: SecurePayload::new(holepunch_secret(handshake_hash)),
            secret,
            id,
            server_relay,
            client_relay,
            server_address,
            remote: Remote::default(),
            round: 0,
            token: None,
            answered_from: None,
            repeated: false,
            step: Step::Over,
        }
    }

    /// Opens our own NAT for the server's first probe, and asks the server.
    pub(super) fn begin(&mut self, context: &mut Context<'_>, fast_open: bool) {
        context.own.ask(context.now, context.dht);
        if fast_open {
            self.open_own_nat(context);
        }
        self.ask(context);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.step {
            // The end of our own pings is an event of its own.
            Step::Settling { at_least, at_most } => Some(*at_least.min(at_most)),
            Step::Waiting(until) => Some(*until),
            Step::Punching(puncher) => Some(puncher.poll_timeout().unwrap_or_else(|| puncher.ends())),
            Step::Asking(_) | Step::Telling(_) | Step::Over => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>) -> Progress {
        let now = context.now;
        match &mut self.step {
            Step::Settling { at_least, at_most } => {
                let settled = context.own.is_settled(now, context.dht);
                if now >= *at_least && (settled || now >= *at_most) {
                    self.settled(context)
                } else {
                    // Looked at again when a ping is answered.
                    *at_least = (*at_least).max(now).min(*at_most);
                    if now >= *at_least && !settled {
                        *at_least = *at_most;
                    }
                    Progress::Going
                }
            }
            Step::Waiting(until) if now >= *until => self.tell(context),
            Step::Punching(puncher) => {
                let mut probes = Vec::new();
                puncher.handle_timeout(now, context.rng, &mut probes);
                probes.into_iter().for_each(|probe| context.out.probe(probe));
                if puncher.is_over(now) { Progress::Failed(HolepunchError::Silence) } else { Progress::Going }
            }
            _ => Progress::Going,
        }
    }

    /// A request has ended; None if it was not of this hole punch.
    pub(super) fn answered(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        answer: Option<&Answer>,
    ) -> Option<Progress> {
        let telling = match &self.step {
            Step::Asking(asking) if *asking == request => false,
            Step::Telling(telling) if *telling == request => true,
            _ => return None,
        };
        self.step = Step::Over;
        let Some(answer) = answer else { return Some(Progress::Failed(HolepunchError::NoAnswer)) };
        let Some(Ok(message)) = answer.value.as_deref().map(Holepunch::decode) else {
            return Some(Progress::Failed(HolepunchError::NoAnswer));
        };
        let opened = self.secure.open(message.payload);
        let Ok(opened) = opened else { return Some(Progress::Failed(HolepunchError::Invalid)) };
        let Ok(said) = HolepunchPayload::decode(&opened) else {
            return Some(Progress::Failed(HolepunchError::Invalid));
        };
        match said.error {
            PeerError::NONE => {}
            PeerError::TRY_LATER if telling => {
                self.wait(context);
                return Some(Progress::Going);
            }
            PeerError(code) => return Some(Progress::Failed(HolepunchError::RemoteAborted(code))),
        }
        let host = *self.server_address.ip();
        let echoed = telling && said.remote_token == Some(host_token(&self.secret, host));
        self.remote.update(&said, echoed.then_some(host));
        self.answered_from = message.peer_address;
        Some(if telling {
            self.punch(context)
        } else {
            self.token = said.token.or(self.token);
            self.settle(context);
            self.handle_timeout(context)
        })
    }

    /// True if a probe from this host can be the server's.
    pub(super) fn may_probe(&self, host: Ipv4Addr) -> bool {
        *self.server_address.ip() == host || self.remote.names(host)
    }

    /// Ends it; the socket that is used stays open.
    pub(super) fn close(mut self, context: &mut Context<'_>, used: Option<Via>) {
        self.stop(context, used);
    }

    /// A probe that dies under way: whoever it was for may send to us from now on.
    fn open_own_nat(&mut self, context: &mut Context<'_>) {
        let via = context.dht.node().asking();
        context.out.probe(Probe { via, to: self.server_address, short_lived: true });
    }

    /// Asks the server what it knows of its NAT, and says what we know of ours.
    fn ask(&mut self, context: &mut Context<'_>) {
        let remote_address = Some(self.server_address);
        let say = Saying { round: self.next_round(), remote_address, ..Saying::default() };
        let RelayInfo { relay_address, peer_address } = self.server_relay;
        self.step = Step::Asking(self.send(context, relay_address, peer_address, say));
    }

    fn settle(&mut self, context: &mut Context<'_>) {
        let unknown = self.remote.firewall == Firewall::UNKNOWN;
        let at_least = if unknown { context.now + SETTLE } else { context.now };
        self.step = Step::Settling { at_least, at_most: context.now + CLASSIFY };
    }

    /// Both ends had their time.
    fn settled(&mut self, context: &mut Context<'_>) -> Progress {
        let own = context.own.reachability(context.now, context.dht);
        let unknown = self.remote.firewall == Firewall::UNKNOWN || self.token.is_none();
        if unknown && !std::mem::replace(&mut self.repeated, true) {
            self.ask(context);
            return Progress::Going;
        }
        let unknown = [self.remote.firewall, own.firewall].contains(&Firewall::UNKNOWN);
        let both_random =
            [self.remote.firewall, own.firewall].iter().all(|kind| keeps_ports(*kind) == Some(false));
        if unknown || both_random {
            let cause = if unknown { Hopeless::Unknown } else { Hopeless::BothRandom };
            self.say_that_we_give_up(context);
            return Progress::Failed(cause.into());
        }
        // A server that has changed its socket since the handshake: its relay knows the new address.
        let moved = self.answered_from.filter(|from| *from != self.server_address);
        if let Some(address) = moved.filter(|_| self.server_relay.relay_address == self.client_relay) {
            self.server_address = address;
            self.open_own_nat(context);
        }
        self.tell(context)
    }

    /// Tells the server that we punch, and asks it to do so too.
    fn tell(&mut self, context: &mut Context<'_>) -> Progress {
        let own = context.own.reachability(context.now, context.dht);
        let burst = [own.firewall, self.remote.firewall].iter().any(|kind| keeps_ports(*kind) != Some(true));
        if burst && !context.bursts.may_start(context.now) {
            self.wait(context);
            return Progress::Going;
        }
        let say = Saying {
            round: self.next_round(),
            punching: true,
            token: Some(host_token(&self.secret, *self.server_address.ip())),
            remote_token: self.token,
            ..Saying::default()
        };
        self.step = Step::Telling(self.send(context, self.client_relay, self.server_address, say));
        Progress::Going
    }

    fn wait(&mut self, context: &mut Context<'_>) {
        let pause = Duration::from_millis(context.rng.random_range(LATER_MILLIS));
        self.step = Step::Waiting(context.now + pause);
    }

    /// The server has answered: it punches, or has a reason why not.
    fn punch(&mut self, context: &mut Context<'_>) -> Progress {
        if !self.remote.punching {
            return Progress::Failed(HolepunchError::RemoteNotPunching);
        }
        let asking = context.dht.node().asking();
        let own = context.own.reachability(context.now, context.dht);
        // A peer that became open meanwhile says no address: it is where its relay sees it.
        if self.remote.firewall == Firewall::OPEN && self.remote.targets.is_empty() {
            return Progress::Reach(asking, self.server_address);
        }
        let plan = match strategy::plan(own.firewall, self.remote.firewall, &self.remote.targets) {
            Ok(plan) => plan,
            Err(hopeless) => return Progress::Failed(hopeless.into()),
        };
        let mut sockets = vec![asking];
        if let Plan::OpenSockets(_) = plan {
            sockets.extend(context.out.open_sockets());
        }
        let puncher = Puncher::new(context.now, plan, self.remote.targets.clone(), sockets);
        if puncher.is_burst() {
            context.bursts.started();
        }
        self.step = Step::Punching(puncher);
        self.handle_timeout(context)
    }

    fn say_that_we_give_up(&mut self, context: &mut Context<'_>) {
        let say = Saying { error: PeerError::ABORTED, round: self.next_round(), ..Saying::default() };
        let RelayInfo { relay_address, peer_address } = self.server_relay;
        self.send(context, relay_address, peer_address, say);
    }

    fn send(
        &mut self,
        context: &mut Context<'_>,
        relay: SocketAddrV4,
        server: SocketAddrV4,
        say: Saying,
    ) -> RequestId {
        let own = context.own.reachability(context.now, context.dht);
        let own = Some(&own).filter(|_| say.error == PeerError::NONE);
        let payload = seal(&self.secure, context.rng, own, say);
        let mut writer = Writer::new();
        let message =
            Holepunch { mode: Mode::FROM_CLIENT, id: self.id, payload: &payload, peer_address: Some(server) };
        message.encode(&mut writer);
        let value = Some(writer.as_slice().to_vec().into());
        let plain = Plain { target: Some(self.target), value, ..Plain::new(relay, Command::PEER_HOLEPUNCH) };
        context.dht.request(context.now, plain)
    }

    fn next_round(&mut self) -> u64 {
        let round = self.round;
        self.round += 1;
        round
    }

    fn stop(&mut self, context: &mut Context<'_>, used: Option<Via>) {
        if let Step::Punching(puncher) = std::mem::replace(&mut self.step, Step::Over) {
            context.finish(&puncher, used);
        }
    }
}
