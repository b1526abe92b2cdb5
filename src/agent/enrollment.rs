//! Enrolls the agent: with a token, through the master's local socket, or by an operator's approval.
//!
//! Owns the files of the agent's identity. Does not depend on tasks.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::net::UnixStream;

use super::handle::Description;
use crate::{
    domain::{
        code::Code,
        fingerprint::Fingerprint,
        network::HostPort,
        session::{Enroll, EnrollAnswer},
    },
    sys::{
        paths::{known_master_sockets, make_private, read_optional, write_private},
        random, socket,
    },
    trust::{
        authority::cluster_of,
        identity::Identity,
        key::{Key, KeyError, key_fingerprint},
        tls::Credentials,
        token::{Token, hash_secret},
        verify::Trust,
    },
    wire::{
        PROTOCOL, SOFTWARE_VERSION,
        channel::{Channel, KeepAlive},
        client::ControlClient,
        connect::DialError,
        enrollment,
        status::CallError,
        unauthenticated::{Introduced, introduce},
    },
};

/// The data that an operator gave the agent so that it can trust the master.
#[derive(Clone, Debug, Default)]
pub(crate) struct Introduction {
    /// A join token.
    pub token: Option<Token>,
    /// The fingerprint of the CA.
    pub ca_fingerprint: Option<Fingerprint>,
}

/// How agents of 0.1.0 came to trust a CA without a fingerprint: they trusted the first CA that answered.
const FIRST_USE: &str = "first use";

/// An agent's identity.
#[derive(Clone, Debug)]
pub(crate) struct Enrolled {
    /// The agent's certificate.
    pub certificate: CertificateDer<'static>,
    /// The certificate of the CA that the agent trusts.
    pub ca: CertificateDer<'static>,
    /// The name of the CA's cluster.
    pub cluster: String,
}

/// The result of a request for an identity.
#[derive(Debug)]
pub(crate) enum EnrollmentResult {
    /// The agent has an identity.
    Enrolled(Enrolled),
    /// An operator has to approve the key.
    Pending {
        /// The key's fingerprint.
        fingerprint: Fingerprint,
        /// Whether another key is known under this name.
        key_changed: bool,
        /// The code that the operator has to type; `None` if the agent knows which CA to trust. It is secret:
        /// the agent sends only proofs of it.
        code: Option<Code>,
        /// The time until the next request.
        retry_after: Duration,
    },
    /// The master refuses the key.
    Refused {
        /// The reason, as text.
        reason: String,
        /// The time until the next request; `None` if another request is useless.
        retry_after: Option<Duration>,
    },
}

/// The error of a request for an identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollmentError {
    /// The master cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The agent was enrolled by a peer that does not know its code.
    #[error(
        "the master there (CA {0}) enrolled this agent without its one-time code, so it may not be your master: the agent runs nothing for it. Give the master's own fingerprint, --master HOST:PORT#FINGERPRINT, or a token"
    )]
    Unproved(Fingerprint),
    /// The key, the certificate or the TLS configuration is not usable.
    #[error("{0}")]
    Unusable(String),
    /// The identity's files cannot be used.
    #[error("cannot use the agent's identity files: {0}")]
    Files(#[from] io::Error),
}

impl From<KeyError> for EnrollmentError {
    fn from(error: KeyError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// The agent's identity on disk, and the client that requests it from the master.
#[derive(Debug)]
pub(crate) struct Enrollment {
    directory: PathBuf,
    key: Key,
    description: Description,
    master: HostPort,
    introduction: Introduction,
    /// The identity that was read last, and the basis of the trust in the CA. If the files are removed, they
    /// are written again from this.
    known: Mutex<Option<(Enrolled, String)>>,
}

impl Enrollment {
    /// Reads the key, or generates it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn new(
        directory: PathBuf,
        description: Description,
        master: HostPort,
        introduction: Introduction,
    ) -> Result<Self, KeyError> {
        let key = Key::load_or_generate(&directory.join("agent.key"))?;
        Ok(Self { directory, key, description, master, introduction, known: Mutex::default() })
    }

    fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.der")
    }

    fn certificate_file(&self) -> PathBuf {
        self.directory.join("agent.der")
    }

    /// Returns the basis of the trust in the CA: `token`, `fingerprint`, `code`, `local` or `first use`.
    #[must_use]
    pub(crate) fn trust(&self) -> String {
        let text = read_optional(&self.directory.join("trust")).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    fn pinned(&self) -> io::Result<Option<CertificateDer<'static>>> {
        let wanted = self.introduced_ca();
        let pinned = read_optional(&self.ca_file())?.map(CertificateDer::from);
        // A fingerprint from an operator replaces an old pin. The key is kept.
        Ok(pinned.filter(|ca| wanted.is_none_or(|wanted| Fingerprint::of(ca) == wanted)))
    }

    fn introduced_ca(&self) -> Option<Fingerprint> {
        self.introduction.token.as_ref().map(|token| token.ca).or(self.introduction.ca_fingerprint)
    }

    /// Returns the identity on disk, if there is one. If its directory was removed while this agent was
    /// running, writes it again.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub(crate) fn stored(&self) -> Result<Option<Enrolled>, EnrollmentError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.directory.exists()
            && let Some((enrolled, trust)) = known().clone()
        {
            match self.write_again(&enrolled, &trust) {
                Ok(()) => tracing::error!(
                    directory = %self.directory.display(),
                    "the directory with the agent's identity was removed; it is written again"
                ),
                Err(error) => tracing::error!(%error, "cannot write the agent's identity again"),
            }
            return Ok(Some(enrolled));
        }
        let stored = self.read()?;
        *known() = stored.clone().map(|enrolled| (enrolled, self.trust()));
        Ok(stored)
    }

    fn write_again(&self, enrolled: &Enrolled, trust: &str) -> io::Result<()> {
        make_private(&self.directory).map_err(io::Error::other)?;
        write_private(&self.directory.join("agent.key"), self.key.to_pem().as_bytes(), true)?;
        write_private(&self.ca_file(), &enrolled.ca, true)?;
        write_private(&self.directory.join("trust"), trust.as_bytes(), true)?;
        write_private(&self.certificate_file(), &enrolled.certificate, true)
    }

    fn read(&self) -> Result<Option<Enrolled>, EnrollmentError> {
        let (Some(ca), Some(certificate)) = (self.pinned()?, read_optional(&self.certificate_file())?) else {
            return Ok(None);
        };
        let certificate = CertificateDer::from(certificate);
        let cluster = cluster_of(&ca)?;
        let is_ours = key_fingerprint(&certificate) == Some(self.key.fingerprint())
            && Identity::of(&certificate)
                == Ok((cluster.clone(), Identity::Agent(self.description.name.clone())));
        Ok(is_ours.then_some(Enrolled { certificate, ca, cluster }))
    }

    /// Deletes the certificate, after the master has reported that it does not know the key.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match std::fs::remove_file(self.certificate_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the credentials for TLS.
    #[must_use]
    pub(crate) fn credentials(&self, enrolled: &Enrolled) -> Credentials {
        let chain = vec![enrolled.certificate.clone(), enrolled.ca.clone()];
        Credentials { chain, key: self.key.to_der() }
    }

    /// Requests an identity from the master, once.
    ///
    /// # Errors
    /// See [`EnrollmentError`].
    pub(crate) async fn ask(&self) -> Result<EnrollmentResult, EnrollmentError> {
        if self.introduction.token.is_none()
            && let Some(asked) = self.ask_locally().await
        {
            return Ok(asked);
        }
        let (trust, how) = match (self.introduced_ca(), self.pinned()?) {
            (_, Some(ca)) if self.introduced_ca().is_some() || self.trust() != FIRST_USE => {
                (Trust::Pinned(ca), None)
            }
            (Some(wanted), _) => {
                let how = if self.introduction.token.is_some() { "token" } else { "fingerprint" };
                (Trust::Fingerprint(wanted), Some(how))
            }
            // The peer is not authenticated until it proves that an operator typed the code there.
            (None, _) => (Trust::FirstUse, None),
        };
        let code = matches!(trust, Trust::FirstUse).then(|| self.code()).transpose()?;
        let token = self.unspent_token()?;
        let HostPort { host, port } = &self.master;
        let Introduced { channel, ca } = introduce(host, *port, trust).await?;
        if let Some(how) = how {
            self.pin(&ca, how)?;
        }
        let asked = self.enroll(channel, &ca, token, code).await?;
        if let (EnrollmentResult::Enrolled(_), Some(token)) = (&asked, token) {
            write_private(&self.spent_token_file(), hash_secret(&token.secret).as_bytes(), true)?;
        }
        Ok(asked)
    }

    fn code_file(&self) -> PathBuf {
        self.directory.join("code")
    }

    /// Returns the code that an operator has to type. It stays the same until the agent is enrolled, even
    /// after a restart.
    fn code(&self) -> io::Result<Code> {
        let stored = read_optional(&self.code_file())?;
        if let Some(code) = stored.and_then(|text| String::from_utf8_lossy(&text).trim().parse().ok()) {
            return Ok(code);
        }
        let code = Code::from_random(random::bytes());
        write_private(&self.code_file(), code.to_string().as_bytes(), true)?;
        Ok(code)
    }

    fn spent_token_file(&self) -> PathBuf {
        self.directory.join("spent-token")
    }

    /// Returns the token, unless this agent was enrolled with it before. An agent that was deleted since then
    /// asks without the token, and waits for approval.
    fn unspent_token(&self) -> io::Result<Option<&Token>> {
        let spent = read_optional(&self.spent_token_file())?.unwrap_or_default();
        let token = self.introduction.token.as_ref();
        Ok(token.filter(|token| hash_secret(&token.secret).as_bytes() != spent))
    }

    fn pin(&self, ca: &CertificateDer<'_>, how: &str) -> io::Result<()> {
        write_private(&self.ca_file(), ca, true)?;
        write_private(&self.directory.join("trust"), how.as_bytes(), true)
    }

    async fn enroll(
        &self,
        channel: Channel,
        ca: &CertificateDer<'_>,
        token: Option<&Token>,
        code: Option<Code>,
    ) -> Result<EnrollmentResult, EnrollmentError> {
        let (key, shown_ca) = (self.key.fingerprint(), Fingerprint::of(ca));
        let request = Enroll {
            protocol: PROTOCOL,
            name: self.description.name.to_string(),
            certificate_request: self.key.certificate_request()?,
            token: token.map(|token| token.secret.clone()),
            version: SOFTWARE_VERSION.to_owned(),
            code_proof: code.as_ref().map(|code| code.prove_agent(key, shown_ca)),
            labels: self.description.labels.clone(),
            direct: self.description.reported(),
        };
        match enrollment::enroll(channel, request).await? {
            EnrollAnswer::Enrolled { certificate, ca_certificate, code_proof, .. } => {
                if let Some(code) = code {
                    if !code_proof.is_some_and(|proof| code.is_master(key, shown_ca, proof)) {
                        return Err(EnrollmentError::Unproved(shown_ca));
                    }
                    self.pin(ca, "code")?;
                }
                let asked = self.accept(&certificate, &ca_certificate, ca)?;
                // The code is valid only once.
                let _ = std::fs::remove_file(self.code_file());
                Ok(asked)
            }
            EnrollAnswer::Pending { retry_after_ms, key_changed } => Ok(EnrollmentResult::Pending {
                fingerprint: key,
                key_changed,
                code,
                retry_after: Duration::from_millis(retry_after_ms.max(500).into()),
            }),
            EnrollAnswer::Refused { reason, retry_after_ms } => Ok(EnrollmentResult::Refused {
                reason,
                retry_after: retry_after_ms.map(|ms| Duration::from_millis(ms.max(500).into())),
            }),
        }
    }

    /// Checks that the certificate is for this key, name and cluster, and stores it.
    fn accept(
        &self,
        certificate: &[u8],
        reported_ca: &[u8],
        ca: &CertificateDer<'_>,
    ) -> Result<EnrollmentResult, EnrollmentError> {
        if reported_ca != ca.as_ref() {
            let reason = "the master's answer names another CA than its connection";
            return Err(EnrollmentError::Unusable(reason.to_owned()));
        }
        write_private(&self.certificate_file(), certificate, true)?;
        match self.stored()? {
            Some(enrolled) => Ok(EnrollmentResult::Enrolled(enrolled)),
            None => Err(EnrollmentError::Unusable("the certificate is not for this agent".to_owned())),
        }
    }

    /// Requests an identity through the master's local socket, if the master at `--master` is on this
    /// machine.
    ///
    /// Returns `None` if the socket does not exist, cannot be used or belongs to another master. Other ways
    /// to enroll remain.
    async fn ask_locally(&self) -> Option<EnrollmentResult> {
        for path in known_master_sockets() {
            let Ok(stream) = socket::connect(&path) else { continue };
            stream.set_nonblocking(true).ok()?;
            let stream = UnixStream::from_std(stream).ok()?;
            let (channel, connection) = Channel::handshake_kept_alive(stream, KeepAlive::QUICK).await.ok()?;
            tokio::spawn(connection);
            let Ok(status) = ControlClient::on(channel.clone()).status().await else { continue };
            let ca = status.ca_fingerprint;
            if self.introduced_ca().is_some_and(|wanted| wanted != ca) {
                continue;
            }
            let HostPort { host, port } = &self.master;
            let Ok(there) = introduce(host, *port, Trust::Fingerprint(ca)).await else { continue };
            self.pin(&there.ca, "local").ok()?;
            return self.enroll(channel, &there.ca, None, None).await.ok();
        }
        None
    }
}
