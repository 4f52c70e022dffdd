//! Accounts and regions: each has its own streams, as if it were a service of its own.
//!
//! ```text
//! signature ─▶ Caller (account, region) ─▶ Site: catalog ─┐
//!                                                          ├─ one log, clock, chance, limits
//!                                         Site: catalog ─┘
//! ```
//! Promises: a request sees the streams of its own account and region and no others; a site is kept
//! from the first stream that is created in it or the account's first settings, and never for a read;
//! sites are bounded: at the bound those that have neither are forgotten, and if none is, the creation is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use kinesis_core::{Clock, Rand};

use super::KinesisOptions;
use super::channels::Channels;
use super::operation::Operation;
use super::subscribe::Subscriptions;
use crate::auth::{Auth, User};
use crate::catalog::{Catalog, StreamCell, Streams};
use crate::commitment::Commitment;
use crate::error::{Error, ErrorKind};
use crate::limits::{Calls, Quotas};
use crate::log::{Held, Log};
use crate::place::Place;
use crate::stream::encryption::KmsKeys;
use crate::stream::lifecycle::Delays;
use crate::wire::fault::Fault;

/// Accounts and regions that can have streams at once. Source: none, reasonable default: a few
/// accounts in every region of AWS.
const SITES_MAX: usize = 256;

/// What one account has in one region.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) place: Arc<Place>,
    pub(super) catalog: Catalog,
    /// Whether its on-demand streams are On-demand Advantage streams.
    commitment: Mutex<Commitment>,
    pub(super) clock: Clock,
    pub(super) rand: Rand,
    /// `None`: nothing is limited.
    pub(super) quotas: Option<Arc<Quotas>>,
    /// The calls of the account.
    pub(super) calls: Calls<Operation>,
    pub(super) delays: Delays,
    pub(super) kms: KmsKeys,
    pub(super) log: Log,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) channels: Arc<Channels>,
    last_stream_id: Arc<AtomicU64>,
    /// Where the streams of other accounts are.
    pub(super) sites: Weak<Sites>,
}

impl Site {
    /// Another place of the same service.
    fn beside(&self, place: Arc<Place>, streams: Streams) -> Self {
        Self {
            place,
            catalog: Catalog::new(streams),
            commitment: Mutex::default(),
            clock: self.clock.clone(),
            rand: self.rand.clone(),
            quotas: self.quotas.clone(),
            calls: Calls::default(),
            delays: self.delays,
            kms: self.kms.clone(),
            log: self.log.clone(),
            subscriptions: Arc::clone(&self.subscriptions),
            channels: Arc::clone(&self.channels),
            last_stream_id: Arc::clone(&self.last_stream_id),
            sites: Weak::clone(&self.sites),
        }
    }

    /// The account's commitment here, for plain calls; the locks of streams may be held.
    pub(super) fn commitment(&self) -> MutexGuard<'_, Commitment> {
        self.commitment
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The commitment of the account whose stream it is, which may be another one. Not to be called
    /// with a stream's lock: the lock of all sites comes before those.
    pub(super) fn commitment_of(&self, cell: &StreamCell) -> Commitment {
        if cell.place == self.place {
            return *self.commitment();
        }
        let sites = self.sites.upgrade();
        let site = sites.and_then(|sites| sites.get(&cell.place.account, &cell.place.region));
        site.map_or_else(Commitment::default, |site| *site.commitment())
    }

    /// Whether there is nothing that has to be kept.
    fn is_empty(&self) -> bool {
        self.catalog.is_empty() && self.commitment().started_ms.is_none()
    }

    /// What a new stream keeps of its place: nothing of that of the settings, which it follows.
    pub(super) fn place_to_keep(&self) -> Option<Arc<Place>> {
        let sites = self.sites.upgrade()?;
        (sites.home.place != self.place).then(|| Arc::clone(&self.place))
    }

    pub(super) fn next_stream_id(&self) -> u64 {
        self.last_stream_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// All sites of the service.
#[derive(Debug)]
pub(super) struct Sites {
    /// The one of the settings: whose request names no other place.
    pub(super) home: Arc<Site>,
    /// Who may call; `None`: anybody.
    pub(super) auth: Option<Arc<Auth>>,
    others: RwLock<BTreeMap<Arc<Place>, Arc<Site>>>,
    /// When the expired records of all streams were last given up.
    pub(super) trimmed_ms: AtomicU64,
}

impl Sites {
    /// The sites of the streams in `cells`, which come in the order of their ids: a later stream
    /// takes its name over from an earlier one that was deleted.
    pub(super) fn new(
        options: KinesisOptions,
        home: Arc<Place>,
        log: Log,
        held: Held,
    ) -> Result<Arc<Self>, Error> {
        let mut places: BTreeMap<Arc<Place>, Streams> = BTreeMap::new();
        for cell in held.streams {
            let streams = places.entry(Arc::clone(&cell.place)).or_default();
            if let Some(earlier) = streams.insert(Arc::clone(&cell.name), Arc::clone(&cell))
                && earlier.read().life.deleted_ms.is_none()
            {
                return Err(twice(&cell));
            }
        }
        let now_ms = options.clock.epoch_millis();
        for streams in places.values_mut() {
            // Its records were given up: what was DELETING is deleted.
            streams.retain(|_, cell| cell.read().life.deleted_ms.is_none());
            for cell in streams.values() {
                cell.write().forget_gone_consumers(now_ms, options.delays);
            }
        }
        let mut commitments = held.commitments;
        for place in commitments.keys() {
            places.entry(Arc::clone(place)).or_default();
        }
        let streams = places.remove(&home).unwrap_or_default();
        let commitment = commitments.remove(&home).unwrap_or_default();
        Ok(Arc::new_cyclic(|sites| {
            let home = Arc::new(Site {
                place: home,
                catalog: Catalog::new(streams),
                commitment: Mutex::new(commitment),
                clock: options.clock,
                rand: options.rand,
                quotas: options.limits.quotas(),
                calls: Calls::default(),
                delays: options.delays,
                kms: options.kms,
                log,
                subscriptions: Arc::default(),
                channels: Arc::new(Channels::new(options.buckets)),
                last_stream_id: Arc::new(AtomicU64::new(held.last_stream_id)),
                sites: Weak::clone(sites),
            });
            let others = places.into_iter().map(|(place, streams)| {
                let site = home.beside(Arc::clone(&place), streams);
                let commitment = commitments.get(&place).copied().unwrap_or_default();
                *site.commitment() = commitment;
                (place, Arc::new(site))
            });
            Self {
                others: RwLock::new(others.collect()),
                auth: options.auth,
                home,
                trimmed_ms: AtomicU64::new(0),
            }
        }))
    }

    /// The site at `place`, if something was ever created there.
    pub(super) fn get(&self, account: &str, region: &str) -> Option<Arc<Site>> {
        if self.home.place.is(account, region) {
            return Some(Arc::clone(&self.home));
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.get(&Place::new(account, region)).cloned()
    }

    /// The site at `place` for one request: for an operation that creates it is kept, for any other
    /// an unknown place is as good as an empty one.
    pub(super) fn site_for(
        &self,
        account: &str,
        region: &str,
        creates: bool,
    ) -> Result<Arc<Site>, Fault> {
        if let Some(site) = self.get(account, region) {
            return Ok(site);
        }
        let place = Arc::new(Place::new(account, region));
        let site = Arc::new(self.home.beside(Arc::clone(&place), Streams::new()));
        if !creates {
            return Ok(site);
        }
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        if others.len() >= SITES_MAX {
            // One that a request still holds may be about to get its first stream.
            others.retain(|_, site| Arc::strong_count(site) > 1 || !site.is_empty());
        }
        if others.len() >= SITES_MAX && !others.contains_key(&place) {
            return Err(Fault::limit_exceeded(format!(
                "kinesis-local keeps the streams of at most {SITES_MAX} accounts and regions; \
                 there is no room for {place}."
            )));
        }
        Ok(Arc::clone(others.entry(place).or_insert(site)))
    }

    /// Every site that is kept.
    pub(super) fn all(&self) -> Vec<Arc<Site>> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let home = std::iter::once(&self.home);
        home.chain(others.values()).cloned().collect()
    }
}

impl Drop for Sites {
    /// A service that was dropped and not closed ends as in a crash.
    fn drop(&mut self) {
        self.home.subscriptions.end_all();
        self.home.log.abandon();
    }
}

fn twice(cell: &StreamCell) -> Error {
    Error::new(
        ErrorKind::Settings,
        format!(
            "the data directory holds two streams {} of {}: one was created for the account and \
             region of the settings, which were others then; start with those",
            cell.name, cell.place
        ),
    )
}

/// Who calls: whose streams are meant.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) account: Arc<str>,
    pub(super) region: Arc<str>,
    /// What a resource policy knows the caller by.
    pub(super) principal: Principal,
}

/// The identity behind a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Principal {
    /// Any credentials are accepted: they stand for the account itself.
    Account(Arc<str>),
    /// A user of the account.
    User(Arc<str>, Arc<User>),
}

impl Principal {
    /// The user's name; `None`: the account itself.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Account(_) => None,
            Self::User(_, user) => Some(&user.name),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account) => write!(f, "arn:aws:iam::{account}:root"),
            Self::User(account, user) => write!(f, "arn:aws:iam::{account}:user/{}", user.name),
        }
    }
}

impl Operation {
    /// Whether a site begins with this operation.
    pub(super) fn creates(self) -> bool {
        matches!(self, Self::CreateStream | Self::UpdateAccountSettings)
    }
}
