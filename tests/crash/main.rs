//! A store on a machine that crashes and fails (`cairn_store::io::sim`): what was acknowledged is there, whole and byte
//! for byte, what was not is there whole or not at all, and work goes on. Sources lie on a real file system.

mod archives;
mod fault;
mod full;
mod history;
mod profiles;
mod pulled;
mod recovery;
mod sync;
