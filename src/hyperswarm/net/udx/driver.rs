//! The task of a socket: packets in, packets out, deadlines.
//!
//! Each turn is bounded: some receive calls, the timers if due, some batches out. If there is more to do the task
//! asks for another turn and lets others run: a flood of the socket can delay neither timers nor other tasks.
//!
//! A single packet for a waiting reader is probably a request. Its acknowledgement waits for the reader: it leaves with
//! the answer, when the reader waits again, or after [`ANSWER_TIME`]. Otherwise each round trip takes two datagrams more,
//! each with a system call, a wake-up and two receive calls at the other side.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::datagrams::Received;
use super::instance::Instance;
use super::port::{Foreign, SocketState};
use crate::limits::UDP_RECEIVE_CALLS;

/// Time for a reader to answer before its packet is acknowledged anyway; the precision of timers.
const ANSWER_TIME: Duration = Duration::from_millis(1);

/// The task. Dropping it, at its end or because it panicked, closes the streams that are left on the socket.
pub(super) struct Driver {
    instance: Arc<Instance>,
    socket: Arc<SocketState>,
    foreign: Foreign,
    received: Received,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; none: it has fired.
    armed: Option<Instant>,
    /// A reader was woken in this turn and may answer: nothing is sent before that.
    answering: bool,
    answer_timer: Pin<Box<Sleep>>,
    /// `answer_timer` has not fired yet.
    answer_armed: bool,
    /// Kept for its allocation.
    awake: Vec<Waker>,
}

impl Driver {
    pub(super) fn new(instance: Arc<Instance>, socket: Arc<SocketState>, foreign: Foreign) -> Self {
        Self {
            instance,
            socket,
            foreign,
            received: Received::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            answering: false,
            answer_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            answer_armed: false,
            awake: Vec::new(),
        }
    }

    /// Gives the machine what came in. True if there may be more.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        self.answering = false;
        for call in 0..UDP_RECEIVE_CALLS {
            match self.socket.datagrams.poll_receive(context, &mut self.received) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => self.process(call == 0),
                // A network that is down for now, or an ICMP error: neither concerns the socket itself.
                Poll::Ready(Err(error)) => tracing::debug!(%error, "receiving on a UDX socket"),
            }
        }
        true
    }

    fn process(&mut self, first: bool) {
        let Self { instance, socket, foreign, received, awake, .. } = self;
        let now = Instant::now();
        let (others, answering) = instance.with(|core| {
            let mut count = 0;
            for (from, datagram) in received.datagrams() {
                core.receive(now, socket.id, foreign, from, datagram);
                count += 1;
            }
            let reads = core.dispatch(awake);
            (core.sockets_with_work(Some(socket.id)), first && count == 1 && reads)
        });
        awake.drain(..).for_each(Waker::wake);
        others.iter().for_each(|other| instance.transmit(&other.state));
        self.answering = answering;
        if !answering {
            // Acknowledgements must not wait for the rest of the flood.
            self.instance.transmit(&self.socket);
        } else if !self.answer_armed {
            self.answer_timer.as_mut().reset((now + ANSWER_TIME).into());
            self.answer_armed = true;
        }
    }

    /// Runs timers that are due, ends the writers' turns, sends.
    fn advance(&mut self) {
        let Self { instance, socket, .. } = self;
        let work = instance.turn(Some(socket.id), |core| {
            let now = Instant::now();
            let due = core.endpoint.poll_timeout().is_some_and(|deadline| deadline <= now);
            let flushed = core.flush();
            if due {
                core.endpoint.handle_timeout(now);
            }
            due || flushed
        });
        if work || !self.answering {
            self.instance.transmit(&self.socket);
        }
    }

    /// Sends what still waits for a reader's answer when the time for it is over. The timer may be of an earlier packet:
    /// then this one is acknowledged early, which is cheaper than moving the timer each time.
    fn end_answers(&mut self, context: &mut Context<'_>) {
        if self.answer_armed && self.answer_timer.as_mut().poll(context).is_ready() {
            self.answer_armed = false;
            self.instance.transmit(&self.socket);
        }
    }

    /// Sees that a task runs when the next deadline comes.
    fn arm(&mut self, context: &mut Context<'_>) {
        // Most deadlines move away before they come. An early wake-up is cheaper than moving the timer each time.
        if let Some(next) = self.instance.with(|core| core.arm()) {
            self.timer.as_mut().reset(next.into());
            self.armed = Some(next);
        }
        if let Some(armed) = self.armed
            && self.timer.as_mut().poll(context).is_ready()
        {
            self.armed = None;
            self.instance.with(|core| core.disarm(armed));
            context.waker().wake_by_ref();
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
        if this.socket.closing.load(Ordering::SeqCst) {
            this.instance.with(|core| core.endpoint.forget_socket(this.socket.id));
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
        let Self { instance, socket, armed, awake, .. } = self;
        socket.closing.store(true, Ordering::SeqCst);
        let others = instance.with(|core| {
            core.abandon(socket.id, awake);
            armed.inspect(|armed| core.disarm(*armed));
            core.all_sockets()
        });
        awake.drain(..).for_each(Waker::wake);
        others.iter().for_each(|other| other.state.task.wake());
    }
}
