//! Unix sockets with paths of any length, and options of TCP sockets.

use std::{
    fs::{self, OpenOptions},
    io,
    net::{TcpListener, ToSocketAddrs as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

/// Maximum length in bytes of a socket path on Linux (`sun_path`). Longer paths go through an open directory.
const LONGEST_PATH: usize = 107;

/// Returns a path that is short enough, and the directory that must stay open while the path is used.
fn short(path: &Path) -> io::Result<(PathBuf, Option<fs::File>)> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return Ok((path.to_owned(), None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let directory = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(parent)?;
    let link = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((link, Some(directory)))
}

/// Listens on a path, and replaces the socket that an earlier listener left. The caller must hold a lock that
/// makes this safe.
///
/// # Errors
/// When the path cannot be bound.
pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let (link, _directory) = short(path)?;
    let listener = UnixListener::bind(link)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Connects to a path.
///
/// # Errors
/// When no process listens on it.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (link, _directory) = short(path)?;
    UnixStream::connect(link)
}

/// Listens on a TCP address; `None` for the host means every address, IPv6 and IPv4 alike.
///
/// # Errors
/// When the address is not this machine's or is in use.
pub(crate) fn listen_tcp(host: Option<&str>, port: u16) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let bind = |address: std::net::SocketAddr| -> io::Result<TcpListener> {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    let Some(host) = host else {
        // A kernel without IPv6 refuses IPv6 with EAFNOSUPPORT or EADDRNOTAVAIL. A port in use is a final
        // error.
        return match bind((std::net::Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                bind((std::net::Ipv4Addr::UNSPECIFIED, port).into())
            }
            result => result,
        };
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_work_under_paths_that_the_kernel_finds_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("sock");
        let listener = listen(&path, 0o600).unwrap();
        connect(&path).unwrap();
        listener.accept().unwrap();
        assert!(listen(&path, 0o600).is_ok(), "a leftover is replaced");
    }
}
