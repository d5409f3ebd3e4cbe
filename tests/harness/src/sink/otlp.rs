//! As much of OTLP's `ExportLogsServiceRequest` as it takes to find the log records.
//!
//! Each record is kept as the bytes that it came in, undecoded: the text that is looked for stands in them as
//! it is, whether a collector put it in the body or into an attribute.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportLogs {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resources: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceLogs {
    #[prost(message, repeated, tag = "2")]
    pub(crate) scopes: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeLogs {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) records: Vec<Bytes>,
}

impl ExportLogs {
    pub(crate) fn records(&self) -> impl Iterator<Item = &Bytes> {
        self.resources.iter().flat_map(|resource| &resource.scopes).flat_map(|scope| &scope.records)
    }
}
