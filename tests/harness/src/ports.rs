//! Loopback ports that are free just now.

use std::{collections::HashSet, net::TcpListener, sync::Mutex};

use crate::error::{Error, Result};

/// What this process has handed out: the system may offer a port again before its user has bound it.
static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port on 127.0.0.1 for a component that wants to be told one. Another process may still take it first;
/// what can listen on port 0 and say which it got should do that.
///
/// # Errors
/// When the system has none left.
///
/// # Panics
/// When another thread panicked in here.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().expect("nobody panics in here");
    let given = given.get_or_insert_default();
    let mut held = Vec::new();
    loop {
        // Held until the end, so that the next attempt gets another one.
        let listener = TcpListener::bind("127.0.0.1:0").map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        held.push(listener);
        if given.insert(port) {
            return Ok(port);
        }
    }
}

fn no_port(source: std::io::Error) -> Error {
    Error::System { what: "a free loopback port".to_owned(), source }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_port_is_given_twice() {
        let ports: std::collections::HashSet<_> = (0..50).map(|_| super::free().expect("a port")).collect();
        assert_eq!(ports.len(), 50);
    }
}
