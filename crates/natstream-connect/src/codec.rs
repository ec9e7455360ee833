//! How values become payloads, and payloads values.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A form that values have in payloads. [`Json`] is the default everywhere.
///
/// A codec is a type without values: it is chosen by name, as in `typed_with::<Row, MyCodec>()`, and costs nothing to carry.
///
/// ```
/// use natstream_connect::{Codec, CodecError, Json};
/// # fn main() -> Result<(), CodecError> {
/// let payload = Json::encode(&("a", 1))?;
/// assert_eq!(payload, r#"["a",1]"#);
/// assert_eq!(Json::decode::<(String, u8)>(&payload)?.1, 1);
/// # Ok(())
/// # }
/// ```
pub trait Codec: 'static {
    /// The payload of a value.
    ///
    /// # Errors
    /// When the value has no such form: a JSON object whose keys are not text, for example.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError>;

    /// The value of a payload.
    ///
    /// # Errors
    /// When the payload is not of this form, or of another type.
    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError>;
}

/// JSON, as `serde_json` reads and writes it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Json;

impl Codec for Json {
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError> {
        serde_json::to_vec(value).map(Bytes::from).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(payload).map_err(CodecError::new)
    }
}

/// Why a value has no payload, or a payload no value. It reads like the codec's own error, which may quote a part of the
/// payload.
#[derive(Clone, Debug)]
pub struct CodecError {
    inner: Arc<dyn Error + Send + Sync>,
}

impl CodecError {
    /// What a codec says.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            inner: error.into().into(),
        }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Error for CodecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values_come_back() {
        let value = BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])]);
        let payload = Json::encode(&value).unwrap();
        assert_eq!(payload, r#"{"a":[1,2],"b":[]}"#);
        assert_eq!(Json::decode::<BTreeMap<String, Vec<u32>>>(&payload).unwrap(), value);
    }

    #[test]
    fn what_has_no_form_is_an_error() {
        assert!(Json::encode(&BTreeMap::from([((1, 2), 3)])).is_err(), "keys are text");
        assert!(Json::decode::<u8>(b"300").is_err());
        assert!(Json::decode::<u8>(b"").is_err());
        assert!(Json::decode::<u8>(b"1 2").is_err(), "something follows");
    }
}
