//! The escape `~` at the beginning of a line in a remote terminal, as in ssh. Pure.

/// A request to this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Hang up: `~.`.
    HangUp,
    /// Suspend this client until the shell continues it: `~^Z`.
    Suspend,
    /// Show the list of escapes: `~?`.
    Help,
}

/// The list of escapes, for the user.
pub(super) const HELP: &str =
    "~. hangs up   ~^Z suspends   ~~ sends ~   ~? shows this help; all at the beginning of a line";

/// The position of the next key in its line.
#[derive(Debug)]
pub(super) struct Escapes {
    is_line_start: bool,
    has_tilde: bool,
}

impl Default for Escapes {
    fn default() -> Self {
        Self { is_line_start: true, has_tilde: false }
    }
}

impl Escapes {
    /// Handles typed bytes. Returns the bytes to send, and the requests to this client.
    pub(super) fn take(&mut self, typed: &[u8]) -> (Vec<u8>, Vec<Typed>) {
        let (mut bytes, mut meant) = (Vec::with_capacity(typed.len() + 1), Vec::new());
        for byte in typed {
            if std::mem::take(&mut self.has_tilde) {
                match byte {
                    b'.' => meant.push(Typed::HangUp),
                    0x1a => meant.push(Typed::Suspend),
                    b'?' => meant.push(Typed::Help),
                    b'~' => {
                        bytes.push(b'~');
                        self.is_line_start = false;
                    }
                    other => {
                        bytes.extend([b'~', *other]);
                        self.is_line_start = matches!(other, b'\r' | b'\n');
                    }
                }
                continue;
            }
            if *byte == b'~' && self.is_line_start {
                self.has_tilde = true;
                continue;
            }
            bytes.push(*byte);
            self.is_line_start = matches!(byte, b'\r' | b'\n');
        }
        (bytes, meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_means_something_at_the_beginning_of_a_line_only() {
        use Typed as T;
        let table = [
            ("~.", "", vec![T::HangUp]),
            ("a~.", "a~.", vec![]),
            ("ls\r~?", "ls\r", vec![T::Help]),
            ("~~.", "~.", vec![]),
            ("~x~.", "~x~.", vec![]),
            ("\n~\x1a", "\n", vec![T::Suspend]),
            ("cd ~/x\r", "cd ~/x\r", vec![]),
        ];
        for (typed, sent, meant) in table {
            assert_eq!(Escapes::default().take(typed.as_bytes()), (sent.into(), meant.clone()), "{typed:?}");
            let mut escapes = Escapes::default();
            let (mut bytes, mut all) = (Vec::new(), Vec::new());
            for byte in typed.as_bytes() {
                let (more, wishes) = escapes.take(&[*byte]);
                bytes.extend(more);
                all.extend(wishes);
            }
            assert_eq!((bytes.as_slice(), all), (sent.as_bytes(), meant), "{typed:?}, key by key");
        }
    }
}
