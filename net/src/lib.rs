//! The exchange between peers: the messages that travel, who is asked for what, and how it arrives. No server and no
//! terminal.
