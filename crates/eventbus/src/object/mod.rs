//! Objects of any size, in buckets of JetStream: put and read as streams, with a digest.
//!
//! A bucket is a stream as ADR-20 describes it, so the `nats` CLI and clients of other languages read and write the same
//! buckets.
//!
//! ```no_run
//! use eventbus::object::{ObjectSpec, Objects};
//!
//! # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
//! let objects = Objects::create(connection, &ObjectSpec::new("releases")).await?;
//! let file = tokio::fs::File::open("app-1.0.tar").await?;
//! let info = objects
//!     .put("app-1.0.tar")
//!     .on_progress(|bytes| println!("{bytes} bytes are stored"))
//!     .read(file)
//!     .await?;
//! println!("{} chunks, {}", info.chunks, info.digest.unwrap_or_default());
//!
//! // What was read is the object only when the reader has ended without an error.
//! let mut object = objects.get("app-1.0.tar").await?;
//! let mut file = tokio::fs::File::create("copy.tar").await?;
//! tokio::io::copy(&mut object, &mut file).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//! - An object is there when all of its chunks are, in order and counted; until then, whatever happens, readers see the one
//!   that was there before, or none.
//! - Who reads gets all of one object, checked against its digest, or an error: also when it is replaced meanwhile.
//! - Two who put the same name at once: the later one stays, and the chunks of the other are removed.
//! - What a process leaves behind that dies while it puts is [swept](Objects::sweep).
//!
//! Memory: [`window_bytes`](Objects::window_bytes) for each object that is put, about 8 MiB for each that is read, and 16 MiB
//! that the connection may hold.

mod description;
mod error;
mod info;
mod put;
mod reader;
mod removal;
mod spec;
mod store;
mod sweep;
mod upload;

pub use self::error::{ObjectError, ObjectErrorKind};
pub use self::info::{Link, ObjectInfo};
pub use self::put::Put;
pub use self::reader::ObjectReader;
pub use self::spec::{BucketInfo, ObjectSpec};
pub use self::store::Objects;
pub use self::sweep::Swept;
