use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Error, Message};
use crate::limits::{MUX_INBOX_BYTES, MUX_PENDING_OVERHEAD};
use crate::mux::{self, ChannelId, CloseReason, Event, IncomingId};

/// What the driver and all handles share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Senders wait here for room, or for their channel to be closed.
    pub(super) room: Notify,
    /// Notified at the end of the connection.
    end: Notify,
}

/// Held by every handle; with the last one the connection is closed.
#[derive(Debug)]
pub(super) struct Connection(pub(super) Arc<Shared>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) mux: mux::Mux,
    inboxes: HashMap<ChannelId, Inbox>,
    pub(super) acceptors: HashMap<(String, Bytes), Acceptances>,
    /// Bytes in all inboxes.
    received: usize,
    /// Whether senders wait for room.
    pub(super) crowded: bool,
    /// True if a channel has been closed whose senders may wait for room.
    release_senders: bool,
    /// Close when all is sent.
    pub(super) closing: bool,
    pub(super) driver: Option<Waker>,
    outcome: Option<Result<(), Arc<Error>>>,
    next_acceptor: u64,
}

/// What has come in for one channel.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    messages: VecDeque<Message>,
    pub(super) handshake: Option<Bytes>,
    pub(super) closed: Option<CloseReason>,
    /// Closed by us.
    pub(super) closed_here: bool,
    /// The receiver.
    reader: Option<Waker>,
    /// Nobody will read it.
    unread: bool,
}

/// Incoming channels that nobody has looked at.
#[derive(Debug)]
pub(super) struct Acceptances {
    pub(super) serial: u64,
    pub(super) queue: VecDeque<Waiting>,
    pub(super) acceptor: Option<Waker>,
}

/// An incoming channel.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) incoming: IncomingId,
    pub(super) protocol: String,
    pub(super) id: Bytes,
    pub(super) handshake: Bytes,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.with(|state| state.closing = true);
    }
}

impl Shared {
    /// Does something with the state, then lets the driver look at what has changed.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, driver) = {
            let mut state = self.state.lock();
            let result = work(&mut state);
            (result, state.driver.take())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }

    /// The same without waking the driver: for itself, and for readers that have changed nothing for it.
    pub(super) fn quietly<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.state.lock())
    }

    /// Lets senders look whether there is room for them again.
    pub(super) fn make_room(&self) {
        let crowded = self.quietly(|state| {
            let wake = state.release_senders || state.crowded && state.mux.has_room();
            state.crowded &= !wake;
            state.release_senders = false;
            wake
        });
        if crowded {
            self.room.notify_waiters();
        }
    }

    /// Closes all channels: nothing more is received.
    pub(super) fn close_channels(&self) {
        self.quietly(|state| {
            state.mux.end();
            state.take_events();
            for acceptances in state.acceptors.values_mut() {
                acceptances.queue.clear();
                acceptances.acceptor.take().into_iter().for_each(Waker::wake);
            }
        });
        self.make_room();
    }

    /// The connection is over, because of `error` if there is one.
    pub(super) fn finish(&self, error: Option<Arc<Error>>) {
        self.quietly(|state| state.outcome.get_or_insert(error.map_or(Ok(()), Err)).is_ok());
        self.close_channels();
        self.end.notify_waiters();
    }

    pub(super) async fn ended(&self) -> Result<(), Arc<Error>> {
        loop {
            let end = self.end.notified();
            if let Some(outcome) = self.quietly(|state| state.outcome.clone()) {
                return outcome;
            }
            end.await;
        }
    }
}

impl State {
    pub(super) fn add_inbox(&mut self, channel: ChannelId) {
        self.inboxes.insert(channel, Inbox::default());
    }

    pub(super) fn inbox(&mut self, channel: ChannelId) -> Option<&mut Inbox> {
        self.inboxes.get_mut(&channel)
    }

    /// Forgets a channel of which all handles are gone.
    pub(super) fn remove_inbox(&mut self, channel: ChannelId) {
        self.stop_reading(channel);
        self.inboxes.remove(&channel);
    }

    /// Closes a channel that is open, and tells its reader.
    pub(super) fn close(&mut self, channel: ChannelId) {
        if self.mux.is_open(channel) {
            self.mux.close(channel);
            self.release_senders = true;
            self.deliver(channel, |inbox| inbox.closed_here = true);
        }
    }

    /// Wakes the reader of a channel when the driver brings it something.
    pub(super) fn wait(&mut self, channel: ChannelId, reader: &Waker) {
        if let Some(inbox) = self.inboxes.get_mut(&channel) {
            inbox.reader = Some(reader.clone());
        }
    }

    /// Drops what is in an inbox, and what will come.
    pub(super) fn stop_reading(&mut self, channel: ChannelId) {
        if let Some(inbox) = self.inboxes.get_mut(&channel) {
            inbox.unread = true;
            let dropped: usize = inbox.messages.drain(..).map(|message| charge(&message)).sum();
            self.received -= dropped;
        }
    }

    /// Takes the next message of a channel, and whether that lets the driver go on.
    pub(super) fn take_message(&mut self, channel: ChannelId) -> Option<(Message, bool)> {
        let message = self.inboxes.get_mut(&channel)?.messages.pop_front()?;
        let full = self.received >= MUX_INBOX_BYTES;
        self.received -= charge(&message);
        Some((message, full && self.received < MUX_INBOX_BYTES))
    }

    /// Whether readers have room for what comes.
    pub(super) fn has_room(&self) -> bool {
        self.received < MUX_INBOX_BYTES
    }

    /// A place in which to wait for incoming channels.
    pub(super) fn add_acceptor(&mut self, key: (String, Bytes)) -> u64 {
        self.mux.pair(&key.0, &key.1);
        self.next_acceptor += 1;
        let serial = self.next_acceptor;
        let acceptances = Acceptances { serial, queue: VecDeque::new(), acceptor: None };
        if let Some(replaced) = self.acceptors.insert(key, acceptances) {
            self.reject_all(replaced);
        }
        serial
    }

    pub(super) fn reject_all(&mut self, acceptances: Acceptances) {
        for waiting in acceptances.queue {
            self.mux.reject(waiting.incoming);
        }
        acceptances.acceptor.into_iter().for_each(Waker::wake);
    }

    /// Why the connection ended, if it has.
    pub(super) fn outcome(&self) -> Option<&Result<(), Arc<Error>>> {
        self.outcome.as_ref()
    }

    /// Brings events to those they are for, until the inboxes are full. Afterwards there is an outcome if the
    /// connection has to be destroyed.
    pub(super) fn take_events(&mut self) {
        while self.has_room() || self.mux.is_closed() {
            let Some(event) = self.mux.poll_event() else { break };
            match event {
                Event::RemoteOpen { incoming, protocol, id, handshake } => {
                    self.offer(Waiting { incoming, protocol, id, handshake });
                }
                Event::Withdrawn { incoming } => {
                    for acceptances in self.acceptors.values_mut() {
                        acceptances.queue.retain(|waiting| waiting.incoming != incoming);
                    }
                }
                Event::Opened { channel, handshake } => {
                    self.deliver(channel, |inbox| inbox.handshake = Some(handshake));
                }
                Event::Message { channel, kind, body } => self.receive(channel, Message { kind, body }),
                Event::Closed { channel, reason } => {
                    self.release_senders = true;
                    self.deliver(channel, |inbox| inbox.closed = Some(reason));
                }
                // Senders are woken by the driver, also while the inboxes are full.
                Event::Drained => {}
                Event::Failed(error) => {
                    self.outcome.get_or_insert(Err(Arc::new(error.into())));
                }
            }
        }
    }

    fn offer(&mut self, waiting: Waiting) {
        let mut key = (waiting.protocol.clone(), waiting.id.clone());
        if !self.acceptors.contains_key(&key) {
            key.1 = Bytes::new();
        }
        match self.acceptors.get_mut(&key) {
            // The machine bounds how many wait, and rejects others.
            Some(acceptances) => {
                acceptances.queue.push_back(waiting);
                acceptances.acceptor.take().into_iter().for_each(Waker::wake);
            }
            None => self.mux.reject(waiting.incoming),
        }
    }

    fn receive(&mut self, channel: ChannelId, message: Message) {
        let charge = charge(&message);
        if self.inboxes.get(&channel).is_some_and(|inbox| !inbox.unread) {
            self.received += charge;
            self.deliver(channel, |inbox| inbox.messages.push_back(message));
        }
    }

    fn deliver(&mut self, channel: ChannelId, change: impl FnOnce(&mut Inbox)) {
        if let Some(inbox) = self.inboxes.get_mut(&channel) {
            change(inbox);
            inbox.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// What a message takes of the room of all inboxes.
fn charge(message: &Message) -> usize {
    message.body.len() + MUX_PENDING_OVERHEAD
}
