//! What groupmq is measured against.

pub(crate) mod bare;
