//! Flags of `syscall` become a fault.

use pod_chaos_protocol::{Call, Calls, Percentage, SyscallFault};

use crate::{
    cli::CallArgs,
    exit::{Error, Exit},
};

/// The fault that these flags ask for, or why they make no sense together.
pub fn fault(args: &CallArgs) -> Result<SyscallFault, Error> {
    let sets = args.sets.iter().copied().map(Call::Set);
    let fault = SyscallFault {
        calls: Calls::new(args.calls.iter().copied().chain(sets).collect()),
        error: args.error,
        delay_enter: args.delay_enter.unwrap_or_default(),
        delay_exit: args.delay_exit.unwrap_or_default(),
        signal: args.signal,
        when: args.when.unwrap_or_default(),
        paths: args.paths.clone(),
        descriptors: args.descriptors.clone(),
        probability: args.probability.unwrap_or(Percentage::ALL),
        seed: args.call_seed,
    };
    match fault.check() {
        Ok(()) => Ok(fault),
        Err(error) => Err(Error::new(Exit::Usage, &error).hint(error.hint())),
    }
}
