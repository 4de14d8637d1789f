//! The server as its peers meet it: over real sockets, with TLS and without, politely and not.

mod access;
mod http;
mod limits;
mod proxy;
mod publishing;
mod reading;
mod rude;
mod served;
mod stopping;
mod tls;
