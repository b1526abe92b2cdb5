//! The stored masters, similar to contexts of kubectl: their addresses and keys.
//!
//! Each is stored in its own directory below the client's data, readable only by its owner. Makes no calls.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{
    args::{MasterChoice, ToMaster},
    exit::Failure,
};
use crate::{
    domain::{
        fingerprint::Fingerprint,
        name::{MasterName, nearest},
        network::HostPort,
    },
    sys::{
        paths::{client_directories, make_private, read_optional, write_private},
        random,
    },
    trust::{
        key::Key,
        tls::{self, ALPN_H2, Credentials},
        verify::Trust,
    },
    wire::{
        client::{MasterAddress, RemoteMaster},
        login::LoggedIn,
    },
};

/// The stored data of a master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownMaster {
    /// `unix:PATH` or `HOST:PORT`.
    pub address: String,
    /// The name of the operator; empty for a socket, where the user's identity is used.
    #[serde(default)]
    pub operator: String,
    /// The role that the login granted.
    #[serde(default)]
    pub role: String,
    /// The fingerprint of the master's CA; empty for a socket.
    #[serde(default)]
    pub ca_fingerprint: String,
    /// The fingerprint of the operator's key; empty for a socket.
    #[serde(default)]
    pub key_fingerprint: String,
}

/// The stored masters of this user.
#[derive(Clone, Debug)]
pub(crate) struct Masters {
    directory: PathBuf,
}

/// Checks the name of a master. Its characters are safe in the name of a directory.
fn checked(name: &str) -> Result<MasterName, Failure> {
    let name: MasterName = name.parse().map_err(Failure::usage)?;
    if name.as_str() == "local" {
        return Err(Failure::usage("local is the master of this machine; choose another name"));
    }
    Ok(name)
}

impl Masters {
    /// Opens the stored masters of this user.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub(crate) fn open() -> Result<Self, Failure> {
        Ok(Self { directory: client_directories(None).map_err(Failure::new)?.data })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.join("masters").join(name)
    }

    fn io_failure(path: &Path) -> impl Fn(io::Error) -> Failure {
        let path = path.display().to_string();
        move |error| Failure::new(format!("cannot use {path}: {error}"))
    }

    /// Returns all stored masters, sorted by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn all(&self) -> Result<Vec<(String, KnownMaster)>, Failure> {
        let directory = self.directory.join("masters");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Self::io_failure(&directory)(error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(Self::io_failure(&directory))?.file_name();
            let Some(name) = name.to_str() else { continue };
            // This directory also has the histories of masters that are not stored.
            all.extend(self.find(name)?.map(|known| (name.to_owned(), known)));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Returns a stored master.
    ///
    /// # Errors
    /// If its file cannot be read or parsed.
    pub(crate) fn find(&self, name: &str) -> Result<Option<KnownMaster>, Failure> {
        if name.parse::<MasterName>().is_err() {
            return Ok(None);
        }
        let path = self.place(name).join("master.json");
        let Some(json) = read_optional(&path).map_err(Self::io_failure(&path))? else { return Ok(None) };
        let known = serde_json::from_slice(&json);
        let broken = |error| Failure::new(format!("{} is invalid: {error}", path.display()));
        known.map(Some).map_err(broken)
    }

    /// Returns the selected master, which is the default for commands.
    ///
    /// # Errors
    /// If the selection cannot be read.
    pub(crate) fn selected(&self) -> Result<Option<String>, Failure> {
        let path = self.directory.join("selected-master");
        let text = read_optional(&path).map_err(Self::io_failure(&path))?.unwrap_or_default();
        let name = String::from_utf8_lossy(&text).trim().to_owned();
        Ok(Some(name).filter(|name| !name.is_empty()))
    }

    /// Selects the default master for commands; `None` selects the master of this machine.
    ///
    /// # Errors
    /// If the selection cannot be written.
    pub(crate) fn select(&self, name: Option<&str>) -> Result<(), Failure> {
        make_private(&self.directory).map_err(Failure::new)?;
        let path = self.directory.join("selected-master");
        write_private(&path, name.unwrap_or_default().as_bytes(), false).map_err(Self::io_failure(&path))
    }

    /// Stores a master that needs no key.
    ///
    /// # Errors
    /// If the name is taken or invalid, or if a file cannot be written.
    pub(crate) fn add(&self, name: &str, known: &KnownMaster) -> Result<(), Failure> {
        let name = checked(name)?;
        if self.find(name.as_str())?.is_some() {
            let text =
                format!("there is a master {name} already; `sloth-runner master remove {name}` removes it");
            return Err(Failure::new(text));
        }
        self.write(&name, known, |_| Ok(()))
    }

    /// Stores a login. It replaces an older login to the same master.
    ///
    /// # Errors
    /// If the name is invalid or belongs to another master, or if a file cannot be written.
    pub(crate) fn store_login(
        &self,
        name: &str,
        address: &str,
        key: &Key,
        login: &LoggedIn,
    ) -> Result<KnownMaster, Failure> {
        let ca = Fingerprint::of(&login.ca);
        let name = self.check_login(name, ca)?;
        let known = KnownMaster {
            address: address.to_owned(),
            operator: login.operator.to_string(),
            role: login.role.word().to_owned(),
            ca_fingerprint: ca.to_string(),
            key_fingerprint: key.fingerprint().to_string(),
        };
        self.write(&name, &known, |place| {
            write_private(&place.join("operator.key"), key.to_pem().as_bytes(), true)?;
            write_private(&place.join("operator.der"), &login.certificate, true)?;
            write_private(&place.join("ca.der"), &login.ca, true)
        })?;
        Ok(known)
    }

    /// Checks that a login to the master with this CA can be stored under a name. To be called before the
    /// login string is used, which cannot be undone.
    ///
    /// # Errors
    /// If the name is invalid or belongs to another master.
    pub(crate) fn check_login(&self, name: &str, ca: Fingerprint) -> Result<MasterName, Failure> {
        let name = checked(name)?;
        match self.find(name.as_str())? {
            Some(other) if other.ca_fingerprint != ca.to_string() => Err(Failure::new(format!(
                "{name} is another master ({}); give this one another name with --name",
                other.address
            ))),
            _ => Ok(name),
        }
    }

    /// Returns a free name for the master with this CA: its host name, with a number if that name is taken.
    #[must_use]
    pub(crate) fn free_name(&self, hostname: &str, host: &str, ca: Fingerprint) -> String {
        let short = hostname.split('.').next().unwrap_or_default();
        let base = [short, host].into_iter().find(|name| checked(name).is_ok()).unwrap_or("master");
        let numbered = (2..100).map(|number| format!("{base}-{number}"));
        let random = || format!("master-{}", random::hex(&random::bytes::<4>()));
        let mut names = std::iter::once(base.to_owned()).chain(numbered);
        names.find(|name| self.check_login(name, ca).is_ok()).unwrap_or_else(random)
    }

    fn write(
        &self,
        name: &MasterName,
        known: &KnownMaster,
        more: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let place = self.place(name.as_str());
        make_private(&self.directory).map_err(Failure::new)?;
        make_private(&place).map_err(Failure::new)?;
        let json = serde_json::to_vec_pretty(known).map_err(Failure::new)?;
        // `master.json` comes last: a master without it is not listed, so an interrupted write leaves no
        // partial one.
        more(&place)
            .and_then(|()| write_private(&place.join("master.json"), &json, true))
            .map_err(Self::io_failure(&place))
    }

    /// Removes a master, with its key and history.
    ///
    /// # Errors
    /// If there is no such master, or it cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        if self.find(name)?.is_none() {
            return Err(self.unknown(name)?);
        }
        let place = self.place(name);
        fs::remove_dir_all(&place).map_err(Self::io_failure(&place))?;
        if self.selected()?.as_deref() == Some(name) {
            self.select(None)?;
        }
        Ok(())
    }

    /// Returns the failure for a name that is not stored.
    ///
    /// # Errors
    /// If the stored masters cannot be read.
    pub(crate) fn unknown(&self, name: &str) -> Result<Failure, Failure> {
        let all = self.all()?;
        let names = || all.iter().map(|(name, _)| name.as_str());
        let near = nearest(name, names());
        let rest = if !near.is_empty() {
            format!("did you mean {}?", near.join(" or "))
        } else if all.is_empty() {
            "none is stored; `sloth-runner login` adds one, and unix:PATH names a socket".to_owned()
        } else {
            format!("stored are {}", names().collect::<Vec<_>>().join(", "))
        };
        Ok(Failure::usage(format!("no master is stored as {name:?}: {rest}")))
    }

    /// Returns the address and credentials for a stored master.
    fn address(&self, name: &str, known: &KnownMaster) -> Result<MasterAddress, Failure> {
        if let Some(path) = known.address.strip_prefix("unix:") {
            return Ok(MasterAddress::Socket(path.into()));
        }
        let HostPort { host, port } = HostPort::parse(&known.address, None).map_err(Failure::new)?;
        let place = self.place(name);
        let read = |file: &str| -> Result<Vec<u8>, Failure> {
            let path = place.join(file);
            let text = format!("{} is missing; log in to {name} again", path.display());
            read_optional(&path).map_err(Self::io_failure(&path))?.ok_or_else(|| Failure::new(text))
        };
        let ca = CertificateDer::from(read("ca.der")?);
        let chain = vec![CertificateDer::from(read("operator.der")?), ca.clone()];
        read("operator.key")?;
        let key = Key::load_or_generate(&place.join("operator.key")).map_err(Failure::new)?;
        let own = Credentials { chain, key: key.to_der() };
        let tls = tls::client(Some(own), Trust::Pinned(ca), ALPN_H2).map_err(Failure::new)?;
        Ok(MasterAddress::Remote(Arc::new(RemoteMaster {
            name: name.to_owned(),
            host,
            port,
            tls: Arc::new(tls),
        })))
    }

    /// Finds a stored master by its name or its address.
    fn resolve_named(&self, wanted: &str) -> Result<MasterAddress, Failure> {
        if let Some(known) = self.find(wanted)? {
            return self.address(wanted, &known);
        }
        let all = self.all()?;
        match all.iter().find(|(_, known)| known.address == wanted) {
            Some((name, known)) => self.address(name, known),
            None if wanted.contains(':') => Err(Failure::usage(format!(
                "not logged in to {wanted}: `sloth-runner master operator add NAME --role ROLE` on the master's machine prints a login string for `sloth-runner login`"
            ))),
            None => Err(self.unknown(wanted)?),
        }
    }
}

/// Returns the master for a command: the one that it names, else the selected one, else the one of this
/// machine.
///
/// # Errors
/// If it names an unknown master.
pub(crate) fn resolve(to: &ToMaster) -> Result<MasterAddress, Failure> {
    match &to.master {
        Some(MasterChoice::Local) => Ok(MasterAddress::Local),
        Some(MasterChoice::Socket(path)) => Ok(MasterAddress::Socket(path.clone())),
        Some(MasterChoice::Named(name)) => Masters::open()?.resolve_named(name),
        None => {
            // A user without a home directory has no stored masters.
            let Ok(masters) = Masters::open() else { return Ok(MasterAddress::Local) };
            match masters.selected()? {
                None => Ok(MasterAddress::Local),
                Some(name) => match masters.find(&name)? {
                    Some(known) => masters.address(&name, &known),
                    None => Err(Failure::new(format!(
                        "the selected master {name} is not stored any more; `sloth-runner master select` chooses another"
                    ))),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters() -> (tempfile::TempDir, Masters) {
        let dir = tempfile::tempdir().unwrap();
        let masters = Masters { directory: dir.path().join("client") };
        (dir, masters)
    }

    fn socket() -> KnownMaster {
        KnownMaster {
            address: "unix:/run/x.sock".to_owned(),
            operator: String::new(),
            role: String::new(),
            ca_fingerprint: String::new(),
            key_fingerprint: String::new(),
        }
    }

    #[test]
    fn masters_are_stored_selected_and_forgotten() {
        let (_dir, masters) = masters();
        assert!(masters.all().unwrap().is_empty() && masters.selected().unwrap().is_none());
        masters.add("prod", &socket()).unwrap();
        assert!(masters.add("prod", &socket()).unwrap_err().message.contains("already"));
        masters.select(Some("prod")).unwrap();
        assert_eq!(masters.selected().unwrap().as_deref(), Some("prod"));
        assert_eq!(masters.all().unwrap(), [("prod".to_owned(), socket())]);
        assert!(
            matches!(masters.resolve_named("prod"), Ok(MasterAddress::Socket(path)) if path == Path::new("/run/x.sock"))
        );
        let text = masters.resolve_named("prd").unwrap_err().message;
        assert!(text.contains("did you mean prod?"), "{text}");
        masters.remove("prod").unwrap();
        assert!(masters.selected().unwrap().is_none(), "what is gone is not selected");
    }

    #[test]
    fn a_name_is_never_a_path() {
        let (_dir, masters) = masters();
        for name in ["../x", "a/b", "", ".", "local"] {
            assert!(masters.add(name, &socket()).is_err(), "{name:?}");
        }
        assert_eq!(masters.find("../../etc/passwd").unwrap(), None);
    }

    #[test]
    fn a_second_master_on_one_host_gets_a_name_of_its_own() {
        let (_dir, masters) = masters();
        let [one, two] = [b"one", b"two"].map(|ca| Fingerprint::of(ca));
        assert_eq!(masters.free_name("prod.example.org", "10.0.0.1", one), "prod");
        masters.add("prod", &KnownMaster { ca_fingerprint: one.to_string(), ..socket() }).unwrap();
        assert_eq!(masters.free_name("prod.example.org", "10.0.0.1", one), "prod", "the same one again");
        assert_eq!(masters.free_name("prod.example.org", "10.0.0.1", two), "prod-2");
        assert_eq!(masters.free_name("local", "10.0.0.1", two), "10.0.0.1");
        assert_eq!(masters.free_name("", "::1", two), "master");
        assert!(masters.check_login("prod", two).unwrap_err().message.contains("another master"));
    }
}
