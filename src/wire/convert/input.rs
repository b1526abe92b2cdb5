//! Standard input: its kind, its bytes, and the offset up to which a command has read them.

use super::{InvalidMessage, reference::reference_in};
use crate::{
    domain::{
        control::{InputProgress, InputRequest, InputTaken, Stdin, WindowSize},
        input::{StandardInput, Terminal},
    },
    wire::proto::{self, send_input_request, send_input_response, standard_input::Kind},
};

/// The size of a terminal when the message contains none.
const USUAL: WindowSize = WindowSize { rows: 24, columns: 80 };

pub(super) fn input_out(input: StandardInput) -> Option<proto::StandardInput> {
    let kind = match input {
        StandardInput::Nothing => return None,
        StandardInput::Stream => Kind::Stream(proto::InputStream {}),
        StandardInput::Terminal(Terminal { kind, rows, columns }) => {
            let size = Some(WindowSize { rows, columns }.into());
            Kind::Terminal(proto::Terminal { kind: kind.into(), size })
        }
    };
    Some(proto::StandardInput { kind: Some(kind) })
}

pub(super) fn input_in(input: Option<proto::StandardInput>) -> StandardInput {
    match input.and_then(|input| input.kind) {
        None => StandardInput::Nothing,
        Some(Kind::Stream(_)) => StandardInput::Stream,
        Some(Kind::Terminal(terminal)) => {
            let WindowSize { rows, columns } = terminal.size.map_or(USUAL, Into::into);
            StandardInput::Terminal(Terminal { kind: terminal.kind.into(), rows, columns })
        }
    }
}

impl From<WindowSize> for proto::WindowSize {
    fn from(WindowSize { rows, columns }: WindowSize) -> Self {
        Self { rows: rows.into(), columns: columns.into() }
    }
}

impl From<proto::WindowSize> for WindowSize {
    fn from(size: proto::WindowSize) -> Self {
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        Self { rows: cells(size.rows), columns: cells(size.columns) }
    }
}

impl From<Stdin> for proto::Stdin {
    fn from(stdin: Stdin) -> Self {
        Self { offset: stdin.offset, data: stdin.data, eof: stdin.is_end }
    }
}

impl From<proto::Stdin> for Stdin {
    fn from(stdin: proto::Stdin) -> Self {
        Self { offset: stdin.offset, data: stdin.data, is_end: stdin.eof }
    }
}

impl From<InputTaken> for proto::InputTaken {
    fn from(taken: InputTaken) -> Self {
        Self { offset: taken.offset, over: taken.is_over }
    }
}

impl From<proto::InputTaken> for InputTaken {
    fn from(taken: proto::InputTaken) -> Self {
        Self { offset: taken.offset, is_over: taken.over }
    }
}

impl From<InputRequest> for proto::SendInputRequest {
    fn from(request: InputRequest) -> Self {
        use send_input_request::Kind;
        let kind = match request {
            InputRequest::Job(job) => Kind::Job(job.into()),
            InputRequest::Stdin(stdin) => Kind::Stdin(stdin.into()),
            InputRequest::WindowSize(size) => Kind::WindowSize(size.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::SendInputRequest> for InputRequest {
    type Error = InvalidMessage;

    fn try_from(request: proto::SendInputRequest) -> Result<Self, InvalidMessage> {
        use send_input_request::Kind;
        match request.kind {
            Some(Kind::Job(job)) => Ok(Self::Job(reference_in(Some(job))?)),
            Some(Kind::Stdin(stdin)) => Ok(Self::Stdin(stdin.into())),
            Some(Kind::WindowSize(size)) => Ok(Self::WindowSize(size.into())),
            None => Err(InvalidMessage::UnknownKind),
        }
    }
}

impl From<InputProgress> for proto::SendInputResponse {
    fn from(progress: InputProgress) -> Self {
        use send_input_response::Kind;
        let kind = match progress {
            InputProgress::SendFrom(offset) => Kind::SendFrom(offset),
            InputProgress::Taken(taken) => Kind::Taken(taken.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::SendInputResponse> for InputProgress {
    type Error = InvalidMessage;

    fn try_from(response: proto::SendInputResponse) -> Result<Self, InvalidMessage> {
        use send_input_response::Kind;
        match response.kind {
            Some(Kind::SendFrom(offset)) => Ok(Self::SendFrom(offset)),
            Some(Kind::Taken(taken)) => Ok(Self::Taken(taken.into())),
            None => Err(InvalidMessage::UnknownKind),
        }
    }
}
