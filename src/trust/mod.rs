//! Identities and permissions: CA, certificates, tokens and the access table.
//!
//! Uses no sockets and no store. The registry, not the certificate, decides whether a key is still accepted.

pub mod access;
pub mod authority;
pub mod identity;
pub mod key;
pub(crate) mod machine;
pub(crate) mod sealer;
pub mod tls;
pub mod token;
pub mod verify;
