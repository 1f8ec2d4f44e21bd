//! Commands with the flags of `serve` under another name: what they are about is the server that these
//! flags would start.
//!
//! Not here: the flags themselves.

use std::marker::PhantomData;

use argh::{ArgsInfo, CommandInfo, CommandInfoWithArgs, EarlyExit, FromArgs, SubCommand};

use super::ServeFlags;

/// What sets such a command apart from `serve`.
pub trait Named {
    const INFO: CommandInfo;
}

pub struct Check;

impl Named for Check {
    const INFO: CommandInfo = CommandInfo {
        name: "check",
        short: &'\0',
        description: "Check the configuration and say what `serve` would do.",
    };
}

pub struct Health;

impl Named for Health {
    const INFO: CommandInfo = CommandInfo {
        name: "health",
        short: &'\0',
        description: "Ask this machine's server whether it is well; needs no key.",
    };
}

/// The flags, given to the command `N`.
pub struct LikeServe<N>(pub ServeFlags, pub PhantomData<N>);

pub type CheckFlags = LikeServe<Check>;
pub type HealthFlags = LikeServe<Health>;

impl<N: Named> FromArgs for LikeServe<N> {
    fn from_args(command_name: &[&str], args: &[&str]) -> Result<Self, EarlyExit> {
        let described = |mut exit: EarlyExit| {
            let (of_serve, own) = (ServeFlags::COMMAND.description, N::INFO.description);
            exit.output = exit.output.replacen(of_serve, own, 1);
            exit
        };
        let flags = ServeFlags::from_args(command_name, args).map_err(described)?;
        Ok(LikeServe(flags, PhantomData))
    }
}

impl<N: Named> ArgsInfo for LikeServe<N> {
    fn get_args_info() -> CommandInfoWithArgs {
        let CommandInfo { name, description, .. } = N::INFO;
        CommandInfoWithArgs { name, description, ..ServeFlags::get_args_info() }
    }
}

impl<N: Named> SubCommand for LikeServe<N> {
    const COMMAND: &'static CommandInfo = &N::INFO;
}
