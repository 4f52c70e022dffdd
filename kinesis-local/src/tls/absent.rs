//! Stands for TLS in a build without the feature `tls`: there is never an identity.

use std::net::IpAddr;

use tokio::net::TcpStream;

use crate::error::Error;
use crate::settings::Tls;

pub(crate) const FIRST_BYTE: u8 = 0x16;

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Identity {}

impl Identity {
    /// The settings have been checked: they ask for none.
    pub(crate) fn open(_: &Tls, _: Option<IpAddr>) -> Result<Option<Self>, Error> {
        Ok(None)
    }

    pub(crate) async fn accept(&self, _: TcpStream) -> Option<TcpStream> {
        match *self {}
    }
}
