//! Artifacts in S3: the real program and its client against a real S3 server, s3s-fs.

mod client;
mod duty;
mod https;
mod leadership;
mod proxy;
mod server;
mod weather;
