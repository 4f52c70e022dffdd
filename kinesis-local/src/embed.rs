//! The way in without a socket: an SDK `HttpClient` that hands each request to the service.
//!
//! Promises: the request is the one that the SDK signed and would have sent, the response is the
//! one that the socket server would have sent; a request that was handed over is carried out even
//! if the caller stops waiting for it, as with a server on the other end of a wire; after shutdown
//! every request fails the way a refused connection does. Works under paused tokio time.
//!
//! Deliberately absent: connection pools, DNS, TLS, and the SDK's connect and read timeouts (an
//! attempt timeout set on the SDK client works: it does not depend on the connector).

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use crate::route::{Service, Unanswered};

/// An SDK HTTP client that reaches a [`KinesisLocal`](crate::KinesisLocal) in this process.
///
/// Cheap to clone. It keeps the service's data alive, so it goes on working when the handle that
/// made it is dropped; it stops working when
/// [`shutdown`](crate::KinesisLocal::shutdown) was called.
#[derive(Clone, Debug)]
pub struct InProcessClient {
    service: Service,
}

impl InProcessClient {
    pub(crate) fn new(service: Service) -> Self {
        Self { service }
    }
}

impl HttpConnector for InProcessClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let service = self.service.clone();
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let response = service.call(request).await.map_err(unanswered)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// What a client of a socket would have seen.
fn unanswered(why: Unanswered) -> ConnectorError {
    let error = ConnectorError::io(why.into());
    match why {
        Unanswered::Stopped => error.never_connected(),
        Unanswered::Broken => error,
    }
}

impl HttpClient for InProcessClient {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
