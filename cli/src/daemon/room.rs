//! A daemon begins on a full disk too: its sockets are names, and some file systems have no room for one then.

use cairn_store::Writer;

/// Tries again with pieces of the store's reserve, as long as there is no room otherwise.
pub(super) fn on_a_full_disk<T>(
    writer: &Writer,
    mut attempt: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    loop {
        match attempt() {
            Err(error) if is_full(&error) && writer.give_up_reserve() => {}
            done => return done,
        }
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(cairn_store::io::is_full)
}
