"""Celery: the app, its policy, and how kombu keeps messages in Redis. Nothing else knows their lists and envelopes.

A message wakes a worker. Its queue names a network, and the worker asks jobs.store.fair_queue which job of that network
is next. The job id in a message only says which job it was sent for. So a message that is lost or delivered twice is
harmless. Results are switched off: the state of a job never comes from Celery.

Each value of a job's `network` has a queue, and a worker listens to the queues whose jobs it can do. Higher priorities
come first whatever the network; within a priority, the queues take turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from celery import Celery  # type: ignore[import-untyped]
from kombu.exceptions import OperationalError
from redis.connection import parse_url

from jobs.job import RANKS
from jobs.parameters import NETWORKS, NetworkChoice, Priority
from jobs.settings import Settings

TASK = "refinery.refine"
QUEUE = "refinery.jobs"
# 0, 3 and 6 of kombu's ten priorities, 0 being the highest: by default it has a list of its own for each of these.
PRIORITIES = {priority: 3 * rank for priority, rank in RANKS.items()}
SEPARATOR = "\x06\x16"  # kombu's: between the queue's name and the priority in the name of a list

# Without it, a message to a server that is frozen would wait for ever. `send` waits three times at most, under 4
# seconds.
SOCKET_SECONDS = 1.2


class BrokerUnreachable(Exception):
    """The broker does not take a message."""


class Message(NamedTuple):
    """A message that waits."""

    job_id: str
    list_name: str
    text: str  # kombu's envelope


def queue_of(network: str) -> str:
    """The queue of the jobs that ask for a network."""
    return QUEUE if network == "auto" else f"{QUEUE}.{network}"


def network_of(name: str) -> NetworkChoice:
    """The network whose jobs a queue has. Raises ValueError for a queue that has no jobs."""
    for network in NETWORKS:
        if queue_of(network) == name:
            return network
    raise ValueError(f"{name!r} is not a queue of jobs")


def lists_of(network: str) -> list[str]:
    """The Redis lists of a queue, the highest priority first."""
    name = queue_of(network)
    return [name if number == 0 else f"{name}{SEPARATOR}{number}" for number in PRIORITIES.values()]


EVERY_LIST = tuple(name for network in NETWORKS for name in lists_of(network))


def make_app(settings: Settings) -> Celery:
    """The Celery app for these settings."""
    app = Celery("refinery", broker=broker_url(settings.redis_url), set_as_current=False)
    transport: dict[str, Any] = {
        "visibility_timeout": settings.visibility_timeout_seconds,
        "socket_keepalive": True,
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": SOCKET_SECONDS,
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
        # A process that uses CUDA cannot fork, and decoding and encoding release the interpreter's lock.
        worker_pool="threads",
        # Celery reads the timeout in three places, and the shortest one counts.
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
    """The server's URL as Celery reads it: a unix socket is `redis+socket://`; `broker_tls` has the TLS options."""
    if not redis_url.startswith("unix://"):
        parts = urlsplit(redis_url)
        kept = [(name, value) for name, value in parse_qsl(parts.query) if not name.startswith("ssl_")]
        return urlunsplit(parts._replace(query=urlencode(kept)))
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    database = query.removeprefix("db=") if query.startswith("db=") else "0"
    return f"redis+socket://{path}?virtual_host={database}"


def broker_tls(redis_url: str) -> dict[str, Any] | None:
    """Celery's TLS options, the same as the job store's; None for a server without TLS.

    redis-py checks certificate and host name unless the URL says otherwise (`ssl_cert_reqs`, `ssl_ca_certs`, and so
    on). Without these options kombu checks neither.
    """
    if not redis_url.startswith("rediss://"):
        return None
    read: dict[str, Any] = parse_url(redis_url)  # type: ignore[no-untyped-call]
    asked = {name: value for name, value in read.items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **asked}


def send(app: Celery, job_id: str, priority: Priority = "normal", network: NetworkChoice = "auto") -> None:
    """Wake a worker for a queued job.

    Raises BrokerUnreachable when the broker does not answer. The job is safe all the same: jobs.janitor sends its
    message.
    """
    try:
        app.send_task(
            TASK,
            args=[job_id],
            task_id=job_id,
            queue=queue_of(network),
            priority=PRIORITIES[priority],
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0.1},
        )
    except OperationalError as error:
        raise BrokerUnreachable(str(error)) from error


def on_message(app: Celery, work: Callable[[NetworkChoice], None]) -> None:
    """Let a worker of this app call `work` with the network of each message."""

    def refine(task: Any, job_id: str) -> None:
        work(network_of(task.request.delivery_info["routing_key"]))

    app.task(name=TASK, bind=True)(refine)


def waiting(client: redis.Redis, network: str | None = None) -> int:
    """How many messages of a network, or of all, wait in the broker. Messages that a worker has taken do not count."""
    return sum(int(client.llen(name)) for name in (lists_of(network) if network else EVERY_LIST))


def waiting_ids(client: redis.Redis) -> set[str]:
    """The job ids of the messages that wait. Reads all messages."""
    return {message.job_id for name in EVERY_LIST for message in _messages(client, name)}


def messages_for(client: redis.Redis, network: str) -> list[Message]:
    """The messages that wait for a worker with a network."""
    return [message for name in lists_of(network) for message in _messages(client, name)]


def drop(client: redis.Redis, message: Message) -> None:
    """Delete a message that waits."""
    client.lrem(message.list_name, 1, message.text)


def _messages(client: redis.Redis, name: str) -> Iterator[Message]:
    """The messages in a list, read page by page."""
    start, page = 0, 1000
    while texts := client.lrange(name, start, start + page - 1):
        for text in texts:
            yield Message(str(json.loads(text)["headers"]["id"]), name, str(text))
        start += page
