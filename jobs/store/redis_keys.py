"""Every key of the service in Redis: its name and what it holds. All of them begin with `refinery:`.

`SHARED` has the keys and name patterns that Lua scripts may use as `keys.NAME`; see jobs.store.scripts. A running
service is upgraded in place, so a key keeps its name. Times are milliseconds since 1970 by the server's clock.
"""

from __future__ import annotations

from jobs.job import Status

SPACE = "refinery:"

# Sorted sets of job ids by time.
QUEUED = SPACE + "queued"  # since when the job waits, or since its message was last sent again
LEASES = SPACE + "leases"  # when the lease of the running job ends
STARTS = SPACE + "starts"  # when the queued job fails if no worker has begun with it
EXPIRY = SPACE + "expiry"  # when the final job expires
INPUTS = SPACE + "inputs"  # since when image and mask are not needed any more
DELETIONS = SPACE + "deletions"  # since when the expired job's blobs wait to be deleted
DEAD_LETTERS = SPACE + "dead-letters"  # when the job failed; see jobs.dead_letters

# A sorted set of the queued job ids by RANK_SPAN_MS times the rank of their priority plus the time since when they
# wait.
ORDER = SPACE + "order"
RANK_SPAN_MS = 10**13  # greater than any time until the year 2286

TURN = SPACE + "turn"  # the number of the last turn that was given out; see jobs.store.fair_queue
RELEASED = SPACE + "released"  # a list of job ids: any process is to send a new message for each
TOTALS = SPACE + "totals"  # a hash: how often each event has happened to jobs; see jobs.telemetry.overview
DURATIONS = SPACE + "durations"  # a list: seconds from start to end of the last jobs that succeeded
CHANGES = SPACE + "changes"  # a channel: the id of each job that has a new event
API_KEYS = SPACE + "keys"  # a set: the ids of all API keys, revoked ones too
WORKERS = SPACE + "workers"  # a set: the names of the workers
SERVED = SPACE + "served"  # a hash: for each network, when a live worker had it last, in seconds
COMPLETED_BATCHES = SPACE + "batches:completed"  # a list: what webhooks are to tell; see jobs.store.batches
JANITOR_LOCK = SPACE + "janitor"
DESTINATIONS = SPACE + "webhooks:hosts"  # a sorted set: destinations by the time of their first delivery that is due

# Patterns of names, for `%` in Python and string.format in Lua.
JOB = SPACE + "job:%s"  # a hash: `seq`, `status`, `attempt`, `cancel`, `record`, `progress`, `by:<status>`
EVENTS = SPACE + "events:%s"  # a stream; see jobs.store.events
INDEX = SPACE + "index:%s:%s"  # of a scope and a status, a sorted set of job ids, all with score 0: ids sort by age
BATCH = SPACE + "batch:%s"  # of a batch's scope, a hash; see jobs.store.batches
RING = SPACE + "turns:%s:%s"  # of a network and a rank, a sorted set of owners by the number of their turn
LANE = SPACE + "turns:%s:%s:%s"  # of a network, a rank and an owner, a sorted set of job ids by age
API_KEY = SPACE + "key:%s"  # a hash; see jobs.store.owners.api_keys
DELIVERIES = SPACE + "webhooks:job:%s"  # a hash; see jobs.store.deliveries
PENDING = SPACE + "webhooks:job:%s:pending"  # a list of delivery ids in the order of the events
DUE = SPACE + "webhooks:due:%s"  # of a destination, a sorted set of job ids by the time of their next attempt
WEBHOOK_SECRETS = SPACE + "webhooks:secrets:%s"  # of an owner, a list, the newest first
USED = SPACE + "used-%s:%s"  # of a quota and an API key, a hash of what was used; see jobs.store.owners.quotas
FILES = SPACE + "files:%s"  # of an owner, a hash: a record for each file; see jobs.store.owners.files
IDEMPOTENCY = SPACE + "idempotency:%s:%s"  # of an owner and the SHA-256 of the client's key, a hash
WORKER = SPACE + "worker:%s"  # a worker's presence as JSON; it vanishes when the worker does not renew it
PACES = (
    SPACE + "paces:%s:%s"
)  # of a network and a preset, a list: `seconds hole-pixels` of the last jobs that succeeded
REFINED = SPACE + "refined:%s"  # of a network, a list: device seconds of the last jobs that succeeded

SHARED = {
    "queued": QUEUED,
    "leases": LEASES,
    "starts": STARTS,
    "expiry": EXPIRY,
    "inputs": INPUTS,
    "deletions": DELETIONS,
    "dead_letters": DEAD_LETTERS,
    "order": ORDER,
    "turn": TURN,
    "released": RELEASED,
    "totals": TOTALS,
    "changes": CHANGES,
    "api_keys": API_KEYS,
    "janitor_lock": JANITOR_LOCK,
    "destinations": DESTINATIONS,
    "completed_batches": COMPLETED_BATCHES,
    "batch_pattern": BATCH,
    "index_pattern": INDEX,
    "ring_pattern": RING,
    "lane_pattern": LANE,
    "api_key_pattern": API_KEY,
    "deliveries_pattern": DELIVERIES,
    "pending_pattern": PENDING,
}


def job_key(job_id: str) -> str:
    """The hash of one job."""
    return JOB % job_id


def events_key(job_id: str) -> str:
    """The stream of one job's events."""
    return EVENTS % job_id


def scope_of(owner: str | None, batch: str | None = None) -> str:
    """What jobs are listed under: their owner, and if they are in a batch, that batch of the owner."""
    return f"{owner or ''}/{batch}" if batch else owner or ""


def index_key(scope: str | None, status: Status) -> str:
    """The sorted set of a scope's jobs in a state."""
    return INDEX % (scope or "", status)


def api_key_key(key_id: str | None) -> str:
    """The hash of one API key; None stands for the owner of the jobs that belong to no key."""
    return API_KEY % (key_id or "")


def delivery_keys(job_id: str, destination: object = "") -> dict[str, str]:
    """What holds a job's webhook deliveries, as scripts name it: `deliveries`, `pending` and `due`."""
    return {"deliveries": DELIVERIES % job_id, "pending": PENDING % job_id, "due": DUE % str(destination)}
