//! 27 and 28: builds that come from a machine, beside `rsync -z`; releases that come from a web server, beside `curl`.

mod machine;
mod release;

pub(super) use machine::rows as machine;
pub(super) use release::rows as release;
