//! The seam where tests make the disk fail: every call that changes the disk passes [`step`] first. Outside tests
//! it is an empty function that the compiler removes.

#[cfg(not(test))]
#[inline(always)]
pub(super) fn step(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use for_tests::step;

#[cfg(test)]
pub(super) mod for_tests {
    use std::cell::RefCell;
    use std::io;

    /// What happens at the chosen step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// The call fails with this error number and does nothing.
        Fails(i32),
        /// The process dies before the call, as with `kill -9`.
        Killed,
    }

    type Deed = Box<dyn FnOnce()>;

    #[derive(Default)]
    struct Plan {
        seen: Vec<&'static str>,
        at: Option<(usize, Fault)>,
        before: Option<(&'static str, Deed)>,
    }

    thread_local! {
        static PLAN: RefCell<Plan> = RefCell::default();
    }

    /// Forgets the steps seen by this thread and plans a fault at step number `at`, counted from 0.
    pub(crate) fn plan(at: Option<(usize, Fault)>) {
        PLAN.with_borrow_mut(|plan| *plan = Plan { at, ..Plan::default() });
    }

    /// Does something just before the next step of this name: what another program does at that moment.
    pub(crate) fn before(step: &'static str, deed: impl FnOnce() + 'static) {
        PLAN.with_borrow_mut(|plan| plan.before = Some((step, Box::new(deed))));
    }

    /// The steps this thread passed since [`plan`].
    pub(crate) fn seen() -> Vec<&'static str> {
        PLAN.with_borrow(|plan| plan.seen.clone())
    }

    pub(crate) fn step(name: &'static str) -> io::Result<()> {
        let planned = |plan: &mut Plan| plan.before.take_if(|(at, _)| *at == name);
        if let Some((_, deed)) = PLAN.with_borrow_mut(planned) {
            deed();
        }
        PLAN.with_borrow_mut(|plan| {
            let number = plan.seen.len();
            plan.seen.push(name);
            match plan.at {
                Some((at, Fault::Fails(errno))) if at == number => Err(io::Error::from_raw_os_error(errno)),
                Some((at, Fault::Killed)) if at == number => {
                    let own = rustix::process::getpid();
                    rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
                    loop {
                        std::thread::park();
                    }
                }
                _ => Ok(()),
            }
        })
    }
}
