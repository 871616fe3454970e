"""The one Celery app and its whole policy. Only job ids travel through the broker.

Job states never come from Celery: results are switched off, and a message that is lost or delivered twice is harmless,
because jobs.store.job_store decides who works on what, and jobs.store.fair_queue what is next: a message calls a worker
for a network, and the id in it says only on whose account.

Each value of a job's `network` has a queue, and a worker takes from those whose jobs it can do. Higher priorities come
first whatever the network; within one, the queues take turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from celery import Celery  # type: ignore[import-untyped]
from redis.connection import parse_url

from jobs.parameters import NETWORKS, NetworkChoice, Priority
from jobs.settings import Settings

TASK = "refinery.refine"
QUEUE = "refinery.jobs"
PRIORITIES = {"high": 0, "normal": 3, "low": 6}  # as Celery has them on Redis, where 0 is the highest
SEPARATOR = "\x06\x16"  # kombu keeps a list per priority: the queue's name, and this and a number from 3 on


def name_of(network: str) -> str:
    """The queue of the jobs that ask for a network."""
    return QUEUE if network == "auto" else f"{QUEUE}.{network}"


def network_of(name: str) -> NetworkChoice:
    """The network whose jobs a queue has. Raises ValueError for a queue of something else."""
    for network in NETWORKS:
        if name_of(network) == name:
            return network
    raise ValueError(f"{name!r} is no queue of jobs")


def lists_of(network: str) -> list[str]:
    """The Redis lists of a queue, the highest priority first."""
    name = name_of(network)
    return [name if number == 0 else f"{name}{SEPARATOR}{number}" for number in PRIORITIES.values()]


LISTS = tuple(lists_of("auto"))
EVERY_LIST = tuple(name for network in NETWORKS for name in lists_of(network))


def make_app(settings: Settings) -> Celery:
    """The Celery app for these settings; worker registers the task `TASK` on it, api only sends."""
    app = Celery("refinery", broker=broker_url(settings.redis_url), set_as_current=False)
    transport: dict[str, Any] = {
        "visibility_timeout": settings.visibility_timeout_seconds,
        "socket_keepalive": True,
        "socket_connect_timeout": 3.0,
        "health_check_interval": 30,
        # The highest first, always; within each, queue after queue in turn, and the oldest of a queue first.
        "priority_steps": list(PRIORITIES.values()),
        "sep": SEPARATOR,
        "queue_order_strategy": "round_robin",
    }
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # A message is acknowledged when its job is over, and a worker takes no more than it has threads.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # CUDA bears no fork; decode and encode let go of the GIL. See DESIGN: GPU work in a worker.
        worker_pool="threads",
        # The timeout has to be in all three places, or the shortest one wins.
        broker_transport_options=transport,
        result_backend_transport_options={"visibility_timeout": settings.visibility_timeout_seconds},
        visibility_timeout=settings.visibility_timeout_seconds,
        broker_use_ssl=broker_tls(settings.redis_url),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    return app


def broker_url(redis_url: str) -> str:
    """The same server as Celery writes it: a unix socket is `redis+socket://`, and TLS is not the URL's matter."""
    if not redis_url.startswith("unix://"):
        parts = urlsplit(redis_url)
        kept = [(name, value) for name, value in parse_qsl(parts.query) if not name.startswith("ssl_")]
        return urlunsplit(parts._replace(query=urlencode(kept)))
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    database = query.removeprefix("db=") if query.startswith("db=") else "0"
    return f"redis+socket://{path}?virtual_host={database}"


def broker_tls(redis_url: str) -> dict[str, Any] | None:
    """How Celery is to do TLS with the server: as the job store does, None where it does not.

    redis-py checks certificate and host name unless the URL says otherwise (`ssl_cert_reqs`, `ssl_ca_certs`, and so
    on); kombu on its own checks neither.
    """
    if not redis_url.startswith("rediss://"):
        return None
    read: dict[str, Any] = parse_url(redis_url)  # type: ignore[no-untyped-call]
    asked = {name: value for name, value in read.items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **asked}


def send(app: Celery, job_id: str, priority: Priority = "normal", network: NetworkChoice = "auto") -> None:
    """Tell the workers about a queued job. Raises kombu's OperationalError when the broker does not answer;
    the job is safe all the same, its message is sent again by jobs.janitor.
    """
    app.send_task(
        TASK,
        args=[job_id],
        task_id=job_id,
        queue=name_of(network),
        priority=PRIORITIES[priority],
        retry=True,
        retry_policy={"max_retries": 1, "interval_start": 0.1},
    )


def waiting(client: redis.Redis, network: str | None = None) -> int:
    """How many messages wait in the broker, of one network or all, without those that a worker has taken."""
    return sum(int(client.llen(name)) for name in (lists_of(network) if network else EVERY_LIST))


def waiting_ids(client: redis.Redis) -> set[str]:
    """The job ids of the messages that wait; reads them all, page by page."""
    return {job_id for name in EVERY_LIST for job_id, _ in _messages(client, name)}


def messages_for(client: redis.Redis, network: str) -> list[tuple[str, str, str]]:
    """What waits for one network: job id, list and message, for `drop`."""
    return [(job_id, name, text) for name in lists_of(network) for job_id, text in _messages(client, name)]


def drop(client: redis.Redis, name: str, message: str) -> None:
    """Take a message out of its list."""
    client.lrem(name, 1, message)


def _messages(client: redis.Redis, name: str) -> Iterator[tuple[str, str]]:
    start, page = 0, 1000
    while messages := client.lrange(name, start, start + page - 1):
        for message in messages:
            yield str(json.loads(message)["headers"]["id"]), str(message)
        start += page
