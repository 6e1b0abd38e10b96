//! The task of a socket: datagrams in, datagrams out, deadlines.
//!
//! Each turn is bounded: some receive calls, the timers if due, some bursts out. If there is more to do the task
//! asks for another turn and lets others run: a flood of the socket can delay neither timers nor other tasks.
//!
//! What a protocol sends because of a batch may wait for an answer of ours that carries it ([`Haste::Soon`]): it leaves
//! with that answer, or after [`ANSWER_TIME`]. Otherwise each round trip of a stream takes two datagrams more, each with a
//! system call, a wake-up and a receive call at the other side.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::protocol::Haste;
use super::received::Received;
use super::socket::Socket;
use crate::limits::UDP_RECEIVE_CALLS;

/// Time for a user to answer before what it could carry leaves anyway; the precision of timers.
const ANSWER_TIME: Duration = Duration::from_millis(1);

/// The task. Dropping it, at its end or because it panicked, tells the protocols that the socket is gone.
pub(crate) struct Driver {
    socket: Arc<Socket>,
    timer: Pin<Box<Sleep>>,
    /// The deadlines of the protocols that this task sees to, in their order.
    armed: Box<[Option<Instant>]>,
    /// When the timer fires; none: it has fired.
    set: Option<Instant>,
    /// A user was woken in this turn and may answer: nothing is sent before that.
    answering: bool,
    answer_timer: Pin<Box<Sleep>>,
    /// `answer_timer` has not fired yet.
    answer_armed: bool,
    /// The socket was closed by its users, but a protocol still has to answer there.
    lingering: Option<Pin<Box<Sleep>>>,
    /// The socket was closed by its users.
    ended: bool,
}

impl Driver {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Self {
            armed: vec![None; socket.protocols.len()].into(),
            socket,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            set: None,
            answering: false,
            answer_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            answer_armed: false,
            lingering: None,
            ended: false,
        }
    }

    /// Gives the protocols what came in. True if there may be more.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        self.answering = false;
        let mut received = None;
        let mut more = true;
        for call in 0..UDP_RECEIVE_CALLS {
            let slots = received.get_or_insert_with(Received::take);
            match self.socket.datagrams.poll_receive(context, slots) {
                Poll::Pending => {
                    more = false;
                    break;
                }
                Poll::Ready(Ok(())) => self.process(call == 0, slots),
                // A network that is down for now, or an ICMP error: neither concerns the socket itself.
                Poll::Ready(Err(error)) => tracing::debug!(%error, "receiving on a UDP socket"),
            }
        }
        received.into_iter().for_each(Received::give_back);
        more
    }

    fn process(&mut self, first: bool, received: &mut Received) {
        let now = Instant::now();
        let mut batch = received.batch();
        let mut haste = Haste::Soon;
        for protocol in self.socket.protocols.iter() {
            if protocol.receive(now, self.socket.id(), &mut batch) == Haste::Now {
                haste = Haste::Now;
            }
            if batch.is_over() {
                break;
            }
        }
        self.answering = first && haste == Haste::Soon;
        if !self.answering {
            // Acknowledgements must not wait for the rest of the flood.
            self.socket.transmit();
        } else if !self.answer_armed {
            self.answer_timer.as_mut().reset((now + ANSWER_TIME).into());
            self.answer_armed = true;
        }
    }

    /// Runs timers that are due, ends the writers' turns, sends.
    fn advance(&mut self) {
        let (now, id) = (Instant::now(), self.socket.id());
        let mut work = false;
        for protocol in self.socket.protocols.iter() {
            work |= protocol.turn(now, id);
        }
        if work || !self.answering {
            self.socket.transmit();
        }
    }

    /// Sends what still waits for a user's answer when the time for it is over. The timer may be of an earlier packet:
    /// then this one is acknowledged early, which is cheaper than moving the timer each time.
    fn end_answers(&mut self, context: &mut Context<'_>) {
        if self.answer_armed && self.answer_timer.as_mut().poll(context).is_ready() {
            self.answer_armed = false;
            self.socket.transmit();
        }
    }

    /// True while a protocol has to answer on the socket although its users have gone. Nobody can use it any more, so that
    /// this does not become longer.
    fn lingers(&mut self, context: &mut Context<'_>) -> bool {
        if self.lingering.is_none() {
            let (protocols, id) = (&self.socket.protocols, self.socket.id());
            let until = protocols.iter().filter_map(|protocol| protocol.lingers_until(id)).max();
            let until = until.filter(|until| *until > Instant::now());
            self.lingering = until.map(|until| Box::pin(tokio::time::sleep_until(until.into())));
        }
        self.lingering.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_pending())
    }

    /// Sees that a task runs when the next deadline comes.
    fn arm(&mut self, context: &mut Context<'_>) {
        for (protocol, armed) in self.socket.protocols.iter().zip(&mut self.armed) {
            if let Some(next) = protocol.arm() {
                *armed = Some(next);
                // Most deadlines move away before they come. An early wake-up is cheaper than moving the timer each time.
                if self.set.is_none_or(|set| next < set) {
                    self.timer.as_mut().reset(next.into());
                    self.set = Some(next);
                }
            }
        }
        if self.set.is_some() && self.timer.as_mut().poll(context).is_ready() {
            self.fired();
            context.waker().wake_by_ref();
        }
    }

    /// The timer has fired: deadlines that have come are for the next turn, and the timer is for the others.
    fn fired(&mut self) {
        let now = Instant::now();
        for (protocol, armed) in self.socket.protocols.iter().zip(&mut self.armed) {
            if let Some(due) = armed.take_if(|armed| *armed <= now) {
                protocol.disarm(due);
            }
        }
        self.set = self.armed.iter().flatten().min().copied();
        if let Some(next) = self.set {
            self.timer.as_mut().reset(next.into());
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.socket.task.register(context.waker());
        let more = this.receive(context);
        this.advance();
        if this.socket.blocked.load(Ordering::SeqCst)
            && this.socket.datagrams.poll_writable(context).is_ready()
        {
            this.socket.blocked.store(false, Ordering::SeqCst);
            context.waker().wake_by_ref();
        }
        if this.socket.closing.load(Ordering::SeqCst) && !this.lingers(context) {
            this.ended = true;
            return Poll::Ready(());
        }
        this.arm(context);
        this.end_answers(context);
        if more {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Driver {
    /// The socket's deadlines are for the tasks of the others from now on.
    fn drop(&mut self) {
        let Self { socket, armed, ended, .. } = self;
        socket.closing.store(true, Ordering::SeqCst);
        for (protocol, armed) in socket.protocols.iter().zip(armed) {
            armed.take().inspect(|armed| protocol.disarm(*armed));
            protocol.closed(socket.id(), !*ended);
        }
    }
}
