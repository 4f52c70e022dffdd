//! What a worker does in a tick, with the real rules.

use super::*;

impl World {
    /// The election, with requests and answers that get lost.
    pub(super) fn elect(&mut self, worker: &mut Worker) {
        let now = self.now(worker);
        if now < worker.lock.next() {
            return;
        }
        let claim = match worker.lock.step(now) {
            Step::Beat(version) => Claim::Expired(version),
            Step::Look => {
                let row = self.table.lock.clone();
                match worker.lock.saw(row.as_ref(), now) {
                    Some(claim) => claim,
                    None => return,
                }
            }
        };
        self.processes += 1;
        let version = format!("v{}", self.processes);
        worker.lock.sending(&version, now);
        if self.one_in(10) {
            return;
        }
        let row = LockRow {
            owner: worker.name.clone(),
            version,
            duration: LOCK,
            released: false,
        };
        let made = self.table.lock(&claim, row);
        if self.one_in(10) {
            return;
        }
        if made {
            worker.lock.made();
        } else {
            let row = self.table.lock.clone();
            worker.lock.saw(row.as_ref(), now);
        }
    }

    pub(super) fn report(&mut self, worker: &mut Worker) {
        if self.tick >= worker.next_report {
            worker.next_report = self.tick + REPORT_TICKS;
            let stats = WorkerStats::new(&worker.name, self.millis() / 1_000);
            self.table.stats.insert(worker.name.clone(), stats);
        }
    }

    pub(super) fn look(&mut self, worker: &mut Worker) {
        let now = self.now(worker);
        if self.tick >= worker.next_pass {
            worker.next_pass = self.tick + PASS_TICKS;
            if worker.lock.leads_until().is_some_and(|until| now < until) {
                self.lead(worker);
            } else if worker.lock.silent_from(now).is_some_and(|from| now >= from) {
                self.help_itself(worker);
            }
        }
        if self.tick >= worker.next_discovery {
            worker.next_discovery = self.tick + DISCOVERY_TICKS;
            self.discover(worker);
        }
    }

    fn send(&mut self, worker: &mut Worker, write: Write, purpose: Purpose) {
        let slow = if self.one_in(8) {
            self.rand.below(40)
        } else {
            self.rand.below(3)
        };
        worker.flights.push(Flight {
            lands: self.tick + slow,
            sent: self.now(worker),
            write,
            answer_lost: self.one_in(8),
            purpose,
        });
    }

    /// Writes arrive, and their answers.
    pub(super) fn land(&mut self, worker: &mut Worker) {
        if self.tick < worker.cut_until {
            // Requests wait in the network; some arrive long after they were sent.
            return;
        }
        let (landing, flying): (Vec<_>, Vec<_>) = std::mem::take(&mut worker.flights)
            .into_iter()
            .partition(|f| f.lands <= self.tick);
        worker.flights = flying;
        for flight in landing {
            let answer = self.table.write(&flight.write);
            if !flight.answer_lost {
                self.answer(worker, flight, answer);
            }
        }
    }

    fn answer(
        &mut self,
        worker: &mut Worker,
        flight: Flight,
        answer: Result<Lease, Option<Box<Lease>>>,
    ) {
        let now = self.now(worker);
        let id = &flight.write.shard_id;
        match flight.purpose {
            Purpose::Take { acquisition } => {
                let row = match answer {
                    Ok(row) => row,
                    Err(Some(row)) if row.acquisition.as_ref() == Some(&acquisition) => *row,
                    Err(Some(row)) => return worker.observer.saw(&row, now),
                    Err(None) => return,
                };
                let tenure = Tenure::new(&worker.name, &acquisition, row, TIMING, flight.sent);
                worker.held.insert(id.clone(), tenure);
            }
            Purpose::Lead => {
                if let Some(row) = answer.map_or_else(|row| row.map(|row| *row), Some) {
                    worker.observer.saw(&row, now);
                }
            }
            Purpose::GiveUp => {}
            Purpose::Hold => {
                let Some(tenure) = worker.held.get_mut(id) else {
                    return;
                };
                let mark = match &flight.write.change.acquisition {
                    crate::lease::write::Set::To(mark) => Some(mark.as_str()),
                    _ => None,
                };
                if mark != Some(tenure.acquisition()) || now >= tenure.fence_at() {
                    return;
                }
                // The holder waits for one answer at a time; one that it gave up on tells nothing.
                match answer {
                    Ok(row) if row.counter > tenure.lease().counter => {
                        tenure.written(row, flight.sent, now);
                    }
                    Ok(_) => {}
                    Err(row) => {
                        if let Verdict::Lost(_) = tenure.refused(row.map(|row| *row), now) {
                            worker.held.remove(id);
                        }
                    }
                }
            }
        }
    }

    /// Fences, renews, checkpoints, gives up.
    pub(super) fn hold(&mut self, worker: &mut Worker) {
        let now = self.now(worker);
        worker.held.retain(|_, tenure| now < tenure.fence_at());
        let ids: Vec<_> = worker.held.keys().cloned().collect();
        for id in ids {
            let waiting = worker
                .flights
                .iter()
                .any(|flight| flight.write.shard_id == id && flight.lands + 10 > self.tick);
            if waiting {
                continue;
            }
            let asked = worker.held[&id].handoff_requested() && worker.hands_over;
            if (asked || worker.leaves_until.is_some()) && self.rand.below(20) == 0 {
                let tenure = worker.held.remove(&id).expect("held");
                let goes_on = worker.leaves_until.is_none();
                self.send(worker, tenure.give_up(goes_on), Purpose::GiveUp);
                continue;
            }
            let name = worker.name.clone();
            let tenure = worker.held.get_mut(&id).expect("held");
            let write = if self.rand.below(30) == 0 {
                self.progress += 1;
                let to = at(self.progress);
                Write::checkpoint(tenure.lease(), &name, tenure.acquisition(), &to)
            } else if now >= tenure.renew_at() {
                Write::renew(tenure.lease(), &name, tenure.acquisition())
            } else {
                continue;
            };
            tenure.sending(now);
            self.send(worker, write, Purpose::Hold);
        }
    }

    /// Gives back what it holds, takes nothing any more, and ends the handoffs to it.
    pub(super) fn leave(&mut self, worker: &mut Worker) {
        self.table.stats.remove(&worker.name);
        if self.tick < worker.next_pass {
            return;
        }
        worker.next_pass = self.tick + PASS_TICKS;
        let name = worker.name.clone();
        let rows = self.table.rows.values();
        let to_it = rows.filter(|row| row.owner.as_ref() == Some(&name));
        let writes: Vec<_> = to_it.filter_map(Write::withdraw).collect();
        for write in writes {
            self.send(worker, write, Purpose::Lead);
        }
    }

    /// A scan, brought up to date by what the worker holds.
    fn scan(&mut self, worker: &mut Worker) -> Vec<Lease> {
        let mut rows = self.table.scan(&self.rand);
        worker.observer.scanned(&rows, self.now(worker));
        for row in &mut rows {
            if let Some(tenure) = worker.held.get(&row.shard_id) {
                *row = tenure.lease().clone();
            }
        }
        rows
    }

    fn lead(&mut self, worker: &mut Worker) {
        let rows = self.scan(worker);
        let now = self.now(worker);
        let stats: Vec<_> = self.table.stats.values().cloned().collect();
        worker.roster.scanned(&stats, now, self.millis());
        let candidates: Vec<_> = rows.iter().map(|row| candidate(worker, row, now)).collect();
        let members = worker
            .roster
            .members(stats, &candidates, Some(&worker.name), now);
        let plan = assign::plan(&candidates, &members, RULES, &self.rand);
        let row = |id: &ShardId| {
            rows.iter()
                .find(|row| row.shard_id == *id)
                .expect("scanned")
        };
        for (id, to) in &plan.assign {
            if *to == worker.name {
                self.take(worker, row(id));
            } else {
                self.send(worker, Write::assign(row(id), to), Purpose::Lead);
            }
        }
        for (id, to) in &plan.hand_over {
            if let Some(write) = Write::start_handoff(row(id), to) {
                self.send(worker, write, Purpose::Lead);
            }
        }
    }

    fn help_itself(&mut self, worker: &mut Worker) {
        let rows = self.scan(worker);
        let now = self.now(worker);
        for row in rows {
            let free = worker.observer.standing(&row, now).is_free();
            if free && worker.observer.is_unwanted(&row, now) {
                self.take(worker, &row);
            }
        }
    }

    fn discover(&mut self, worker: &mut Worker) {
        let now = self.now(worker);
        // By the index, and then each row by itself; not stale.
        let mine: Vec<Lease> = self
            .table
            .rows
            .values()
            .filter(|row| row.owner.as_ref() == Some(&worker.name))
            .cloned()
            .collect();
        for row in mine {
            worker.observer.saw(&row, now);
            let expired = worker.observer.standing(&row, now) == Standing::Expired;
            if is_given(&row, &worker.name, &worker.process) || expired {
                self.take(worker, &row);
            }
        }
    }

    fn take(&mut self, worker: &mut Worker, row: &Lease) {
        if busy(worker, &row.shard_id) {
            return;
        }
        worker.takes += 1;
        let acquisition = format!("{}{}", worker.process, worker.takes);
        let write = Write::take(row, &worker.name, &acquisition);
        self.send(worker, write, Purpose::Take { acquisition });
    }
}

fn busy(worker: &Worker, id: &ShardId) -> bool {
    worker.held.contains_key(id) || worker.flights.iter().any(|f| f.write.shard_id == *id)
}

fn candidate<'a>(worker: &Worker, lease: &'a Lease, now: Instant) -> Candidate<'a> {
    let held = worker.held.contains_key(&lease.shard_id);
    Candidate {
        lease,
        standing: if held {
            Standing::Active
        } else {
            let left = lease.owner.as_ref().filter(|_| is_untaken(lease));
            match left.is_some_and(|owner| worker.roster.has_left(owner)) {
                true => Standing::Unowned,
                false => worker.observer.standing(lease, now),
            }
        },
        since: worker.observer.since(lease),
        at_work: held || worker.observer.is_at_work(lease),
    }
}
