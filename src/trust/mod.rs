//! Identities and permissions: CA, certificates, tokens and the access table.
//!
//! Knows no sockets and no store; whether a key is still welcome is the registry's business, not a certificate's.

pub mod access;
pub mod authority;
pub mod identity;
pub mod key;
pub mod machine;
pub mod sealer;
pub mod tls;
pub mod token;
pub mod verify;
