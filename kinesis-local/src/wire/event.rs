//! The frames of SubscribeToShard's answer.
//!
//! ```text
//! u32 total · u32 headers · u32 crc32(both) │ headers │ payload │ u32 crc32(all before)
//! ```
//! Promises: the first frame is `initial-response` (some SDKs refuse the stream without it), then
//! come `SubscribeToShardEvent`s and at most one exception, whose payload is `{"message":…}`; all
//! payloads are in the encoding of the request, and each frame says which that is.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;

use super::Format;
use super::fault::Fault;
use super::write::Writer;

/// The type of an event's payload: that of the request, but for the version of JSON.
fn payload_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Cbor => Format::Cbor.content_type(),
    }
}

/// The empty answer that opens the stream.
pub(crate) fn initial_response(format: Format) -> Bytes {
    let mut writer = Writer::new(format);
    writer.structure(|_| {});
    frame(
        &[
            (":message-type", "event"),
            (":event-type", "initial-response"),
        ],
        format.content_type(),
        writer.into_bytes(),
    )
}

/// One event of records.
pub(crate) fn subscribe_to_shard_event(format: Format, payload: Vec<u8>) -> Bytes {
    frame(
        &[
            (":message-type", "event"),
            (":event-type", "SubscribeToShardEvent"),
        ],
        payload_type(format),
        payload,
    )
}

/// The refusal that ends the stream.
pub(crate) fn exception(format: Format, fault: &Fault) -> Bytes {
    let mut writer = Writer::new(format);
    writer.structure(|writer| {
        writer.key("message");
        writer.text(fault.message.as_deref().unwrap_or_default());
    });
    frame(
        &[
            (":message-type", "exception"),
            (":exception-type", &fault.code),
        ],
        payload_type(format),
        writer.into_bytes(),
    )
}

fn frame(headers: &[(&'static str, &str)], content_type: &'static str, payload: Vec<u8>) -> Bytes {
    let mut message = Message::new(payload);
    for (name, value) in headers.iter().chain(&[(":content-type", content_type)]) {
        message = message.add_header(Header::new(
            *name,
            HeaderValue::String((*value).to_owned().into()),
        ));
    }
    let mut buffer = Vec::with_capacity(message.payload().len() + 160);
    match write_message_to(&message, &mut buffer) {
        Ok(()) => buffer.into(),
        // Only a frame of more than 4 GiB fails; events are bounded far below.
        Err(error) => {
            tracing::error!(%error, "An event could not be framed; the subscription ends.");
            Bytes::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;

    use super::*;

    fn header(message: &Message, name: &str) -> Option<String> {
        let header = message
            .headers()
            .iter()
            .find(|header| header.name().as_str() == name)?;
        Some(header.value().as_string().ok()?.as_str().to_owned())
    }

    #[test]
    fn an_exception_names_its_code_and_carries_its_text() {
        let frame = exception(Format::Json, &Fault::in_use("taken"));
        let message = read_message_from(frame).unwrap();
        assert_eq!(header(&message, ":message-type").unwrap(), "exception");
        assert_eq!(
            header(&message, ":exception-type").unwrap(),
            "ResourceInUseException"
        );
        assert_eq!(&message.payload()[..], br#"{"message":"taken"}"#);
    }

    #[test]
    fn the_stream_opens_with_an_initial_response() {
        let message = read_message_from(initial_response(Format::Json)).unwrap();
        assert_eq!(header(&message, ":event-type").unwrap(), "initial-response");
    }
}
