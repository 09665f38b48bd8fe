//! How the scan of an upload travels to another worker.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};
use wasmhouse_storage::bucket::Bucket;

use super::scan::{ReadText, Travelling};
use super::upload::ReadUpload;
use crate::task::LoadFormat;

/// Reads and writes the nodes that are only in plans of loads.
#[derive(Debug)]
pub(in crate::worker) struct LoadCodec(pub(in crate::worker) Bucket);

#[derive(Serialize, Deserialize)]
enum Node {
    Text(Travelling),
    /// Reads what is below it, which travels by itself.
    Upload(LoadFormat),
}

impl PhysicalExtensionCodec for LoadCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (serde_json::from_slice(buf).map_err(external)?, inputs) {
            (Node::Text(scan), []) => Ok(Arc::new(scan.arrive(&self.0)?)),
            (Node::Upload(format), [input]) => Ok(Arc::new(ReadUpload::new(Arc::clone(input), format))),
            _ => internal_err!("the scan of an upload with {} inputs", inputs.len()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let node = if let Some(scan) = node.downcast_ref::<ReadText>() {
            Node::Text(Travelling::of(scan))
        } else if let Some(upload) = node.downcast_ref::<ReadUpload>() {
            Node::Upload(upload.format().clone())
        } else {
            return internal_err!("{} is not the scan of an upload", node.name());
        };
        serde_json::to_writer(buf, &node).map_err(external)
    }
}

fn external(error: serde_json::Error) -> DataFusionError {
    DataFusionError::External(error.into())
}
