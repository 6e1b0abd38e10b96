//! One handshake at a server, and what becomes of it (hyperdht `_addHandshake`, `_onpeerholepunch` in `lib/server.js`).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;

use super::puncher::{Probe, Puncher};
use super::remote::{Remote, Saying, seal};
use super::strategy::{self, Plan, keeps_ports};
use super::{Action, Connect, Context, Role};
use crate::codec::v4::{HolepunchPayload, PeerError};
use crate::crypto::noise::Keys;
use crate::crypto::v4::{SecurePayload, holepunch_secret, host_token};
use crate::dht::hyperdht::HolepunchMessage;
use crate::dht::rpc::Via;
use crate::limits::v4::MAX_PROBE_ECHOES;

/// How long a client has for its first packet or holepunch message, and how long a reply is repeated after the handshake
/// has led to a connection, as upstream.
const WAIT: Duration = Duration::from_secs(10);
/// Time for nodes to say how they see our socket.
const CLASSIFY: Duration = Duration::from_secs(2);

/// A handshake that was answered.
pub(super) struct Slot {
    /// Hash of the client's message.
    pub(super) message: [u8; 32],
    pub(super) reply: Bytes,
    pub(super) stream: u32,
    /// The client's host as it was named, and the host that passed the message on.
    pub(super) client: SocketAddrV4,
    pub(super) passed_by: Ipv4Addr,
    remote_stream: u32,
    /// Given away with the connection.
    keys: Option<Keys>,
    /// None: no hole is punched for it.
    punch: Option<Box<Punch>>,
    until: Instant,
}

/// The server's side of a hole punch.
struct Punch {
    secure: SecurePayload,
    secret: [u8; 32],
    round: u64,
    remote: Remote,
    echoes: usize,
    /// Waits until it is known what NAT we are behind.
    waiting: Option<Waiting>,
    puncher: Option<Puncher>,
}

/// A message that is answered later.
struct Waiting {
    message: HolepunchMessage,
    by_relay: bool,
    until: Instant,
}

/// What a slot needs to know of its client.
pub(super) struct Client {
    pub(super) address: SocketAddrV4,
    pub(super) passed_by: Ipv4Addr,
    pub(super) stream: u32,
}

impl Slot {
    pub(super) fn new(
        now: Instant,
        message: [u8; 32],
        stream: u32,
        client: &Client,
        reply: Bytes,
        keys: Keys,
    ) -> Self {
        Self {
            message,
            reply,
            stream,
            client: client.address,
            passed_by: client.passed_by,
            remote_stream: client.stream,
            keys: Some(keys),
            punch: None,
            until: now + WAIT,
        }
    }

    /// Takes part in a hole punch, if the client wants one.
    pub(super) fn allow_punch(&mut self, context: &mut Context<'_>) {
        let Some(keys) = &self.keys else { return };
        let mut secret = [0; 32];
        context.rng.fill_bytes(&mut secret);
        self.punch = Some(Box::new(Punch {
            secure: SecurePayload::new(holepunch_secret(&keys.handshake_hash)),
            secret,
            round: 0,
            remote: Remote::default(),
            echoes: 0,
            waiting: None,
            puncher: None,
        }));
    }

    /// True if it may still lead to a connection.
    pub(super) fn is_pending(&self) -> bool {
        self.keys.is_some()
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let Some(punch) = &self.punch else { return self.until };
        let waiting = punch.waiting.as_ref().map(|waiting| waiting.until);
        let puncher = punch.puncher.as_ref().and_then(Puncher::poll_timeout);
        [waiting, puncher].into_iter().flatten().fold(self.until, Instant::min)
    }

    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        let Some(punch) = &mut self.punch else { return };
        if let Some(puncher) = &mut punch.puncher {
            let mut probes = Vec::new();
            puncher.handle_timeout(context.now, context.rng, &mut probes);
            probes.into_iter().for_each(|probe| context.out.probe(probe));
        }
        let settled = context.own.is_settled(context.now, context.dht);
        let due = punch.waiting.take_if(|waiting| settled || context.now >= waiting.until);
        if let Some(Waiting { message, by_relay, .. }) = due {
            self.answer(context, &message, by_relay);
        }
    }

    /// The client can be reached here: the stream is connected, once.
    pub(super) fn connect(&mut self, context: &mut Context<'_>, role: Role, via: Via, to: SocketAddrV4) {
        let Some(keys) = self.keys.take() else { return };
        let (stream, remote_stream) = (self.stream, self.remote_stream);
        context.out.act(Action::Connect(Box::new(Connect { stream, remote_stream, via, to, keys, role })));
        self.close(context, Some(via));
        self.until = context.now + WAIT;
    }

    /// Ends its hole punch; a socket that is used stays open.
    pub(super) fn close(&mut self, context: &mut Context<'_>, used: Option<Via>) {
        if let Some(puncher) = self.punch.take().and_then(|punch| punch.puncher) {
            context.finish(&puncher, used);
        }
    }

    /// True if a probe from this host can be the client's.
    pub(super) fn may_probe(&self, host: Ipv4Addr) -> bool {
        let named = |punch: &Punch| *self.client.ip() == host || punch.remote.names(host);
        self.punch.as_deref().is_some_and(named)
    }

    /// A probe arrived from the client: it learns from an echo that it came through.
    pub(super) fn probed(&mut self, context: &mut Context<'_>, via: Via, from: SocketAddrV4) {
        let Some(punch) = &mut self.punch else { return };
        if punch.echoes < MAX_PROBE_ECHOES {
            punch.echoes += 1;
            context.out.probe(Probe { via, to: from, short_lived: false });
        }
    }

    /// A holepunch message arrived. `by_relay`: from one of our own relays, which are trusted with the client's address.
    pub(super) fn receive(&mut self, context: &mut Context<'_>, message: &HolepunchMessage, by_relay: bool) {
        let Some(punch) = &mut self.punch else { return };
        let Ok(opened) = punch.secure.open(&message.payload) else { return };
        let Ok(said) = HolepunchPayload::decode(&opened) else { return };
        if said.error != PeerError::NONE {
            return self.give_up(context, message, PeerError::ABORTED);
        }
        let host = *message.peer_address.ip();
        let echoed = by_relay && said.remote_token == Some(host_token(&punch.secret, host));
        if said.round >= punch.round {
            punch.round = said.round;
            punch.remote.update(&said, echoed.then_some(host));
        }
        context.own.ask(context.now, context.dht);
        if context.own.is_settled(context.now, context.dht) {
            self.answer(context, message, by_relay);
        } else {
            let (message, until) = (message.clone(), context.now + CLASSIFY);
            punch.waiting = Some(Waiting { message, by_relay, until });
        }
    }

    /// Answers a holepunch message, and punches if the client does.
    fn answer(&mut self, context: &mut Context<'_>, message: &HolepunchMessage, by_relay: bool) {
        let Some(punch) = &mut self.punch else { return };
        let Ok(opened) = punch.secure.open(&message.payload) else { return };
        let Ok(said) = HolepunchPayload::decode(&opened) else { return };
        let own = context.own.reachability(context.now, context.dht);
        let addresses = own.addresses.as_deref().unwrap_or_default();
        // The client has opened its NAT for this address of ours: a probe gets through now.
        let expected = said.remote_address.is_some_and(|address| addresses.contains(&address));
        if expected && keeps_ports(own.firewall) == Some(true) {
            let via = context.dht.node().asking();
            context.out.probe(Probe { via, to: message.peer_address, short_lived: false });
        }
        let mut error = PeerError::NONE;
        if punch.remote.punching && punch.puncher.is_none() {
            self.until = self.until.max(context.now + WAIT);
            let plan = strategy::plan(own.firewall, punch.remote.firewall, &punch.remote.targets);
            let burst = !matches!(plan, Ok(Plan::Probe));
            match plan {
                Err(_) => return self.give_up(context, message, PeerError::ABORTED),
                Ok(_) if burst && !context.bursts.may_start(context.now) => error = PeerError::TRY_LATER,
                Ok(plan) => {
                    let mut sockets = vec![context.dht.node().asking()];
                    if let Plan::OpenSockets(_) = plan {
                        sockets.extend(context.out.open_sockets());
                    }
                    let puncher = Puncher::new(context.now, plan, punch.remote.targets.clone(), sockets);
                    if puncher.is_burst() {
                        context.bursts.started();
                    }
                    self.until = self.until.max(puncher.ends());
                    punch.puncher = Some(puncher);
                }
            }
        }
        let say = Saying {
            error,
            round: punch.round,
            punching: punch.puncher.is_some(),
            token: by_relay.then(|| host_token(&punch.secret, *message.peer_address.ip())),
            remote_token: said.token,
            ..Saying::default()
        };
        let payload = seal(&punch.secure, context.rng, Some(&own), say);
        context.dht.reply_holepunch(context.now, message, &payload, None);
    }

    fn give_up(&mut self, context: &mut Context<'_>, message: &HolepunchMessage, error: PeerError) {
        if let Some(punch) = &self.punch {
            let say = Saying { error, round: punch.round, ..Saying::default() };
            let payload = seal(&punch.secure, context.rng, None, say);
            context.dht.reply_holepunch(context.now, message, &payload, None);
        }
        self.close(context, None);
        self.until = self.until.min(context.now + WAIT);
    }
}
