//! The task of a socket: packets in, packets out, deadlines.
//!
//! Each turn is bounded: some receive calls, the timers if due, some batches out. If there is more to do the task
//! asks for another turn and lets others run: whoever floods the socket can delay neither timers nor other tasks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::time::Sleep;

use super::datagrams::Received;
use super::instance::Instance;
use super::port::{Foreign, SocketState};
use crate::limits::UDP_RECEIVE_CALLS;

/// The task. Dropping it, at its end or because it panicked, closes the streams that are left on the socket.
pub(super) struct Driver {
    instance: Arc<Instance>,
    socket: Arc<SocketState>,
    foreign: Foreign,
    received: Received,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; none: it has fired.
    armed: Option<Instant>,
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
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            armed: None,
            awake: Vec::new(),
        }
    }

    /// Gives the machine what came in. Whether there may be more.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..UDP_RECEIVE_CALLS {
            match self.socket.datagrams.poll_receive(context, &mut self.received) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => self.process(),
                // A network that is down for now, or an ICMP error: neither concerns the socket itself.
                Poll::Ready(Err(error)) => tracing::debug!(%error, "receiving on a UDX socket"),
            }
        }
        true
    }

    fn process(&mut self) {
        let Self { instance, socket, foreign, received, awake, .. } = self;
        let now = Instant::now();
        let others = instance.with(|core| {
            for (from, datagram) in received.datagrams() {
                core.receive(now, socket.id, foreign, from, datagram);
            }
            core.dispatch(awake);
            core.sockets_with_work(Some(socket.id))
        });
        awake.drain(..).for_each(Waker::wake);
        // Acknowledgements must not wait for the rest of the flood. (To let a reader answer first, so that the answer
        // carries the acknowledgement, was measured: yielding wakes another thread, and round trips take 1.7 times.)
        instance.transmit(socket);
        others.iter().for_each(|other| instance.transmit(&other.state));
    }

    /// Runs timers that are due, ends the writers' turns, sends.
    fn advance(&mut self) {
        let Self { instance, socket, .. } = self;
        instance.turn(Some(socket.id), |core| {
            let now = Instant::now();
            core.flush();
            if core.endpoint.poll_timeout().is_some_and(|deadline| deadline <= now) {
                core.endpoint.handle_timeout(now);
            }
        });
        instance.transmit(socket);
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
