//! As much of OTLP's `ExportLogsServiceRequest` as it takes to find the log records.
//!
//! Each record is kept as the bytes that it came in, undecoded: the text that is looked for stands in them as
//! it is, whether a collector put it in the body or into an attribute.

use bytes::Bytes;
use memchr::memmem;
use prost::Message;

/// A resource that has it has its pod's labels: the one that all of a benchmark's pods have.
const LABEL: &[u8] = b"app.kubernetes.io/name";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportLogs {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resources: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceLogs {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) resource: Bytes,
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

    /// How many resources there are, and how many of them have their pod's labels.
    pub(crate) fn resources(&self) -> (u64, u64) {
        let described = self.resources.iter().filter(|logs| memmem::find(&logs.resource, LABEL).is_some());
        (self.resources.len() as u64, described.count() as u64)
    }
}
