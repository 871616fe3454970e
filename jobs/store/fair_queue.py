"""Whose job is next: within a network and a priority, the owners of queued jobs take turns, each with its oldest one.

A message in the broker is only a call for a worker; it names a network by its queue, and the worker that takes it
claims the job that is next there. So the jobs of one owner, however many, are never all before another's one.

Keys, for each network and rank (see jobs.store.job_store.RANKS): `turns:<network>:<rank>` has the owners with queued
jobs, a sorted set by the number of their turn; whoever had one, or has come new, is the last.
`turns:<network>:<rank>:<owner>` has the owner's jobs there, by the time since when they are queued, or if a worker gave
them back, by that of their submission. `turn` is the number given out last. jobs.store.scripts changes them in the same
steps as the jobs themselves. An owner with as many running jobs as its API key allows is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from jobs.job import Job
from jobs.parameters import NETWORKS, NetworkChoice
from jobs.store.job_store import ORDER, QUEUED, RANKS, SPACE, STARTS, TURNS

_BUSY = """
local function busy(owner)
  local limits = cjson.decode(redis.call('HGET', space .. 'key:' .. owner, 'limits') or '{}')
  local most = tonumber(limits.running_jobs)
  return most and redis.call('ZCARD', space .. 'index:' .. owner .. ':running') >= most
end
"""

# KEYS: the turns of a network, rank by rank. Answers the id of the job that is next, or nothing.
NEXT = (
    "local space = ARGV[1]"
    + _BUSY
    + """
for _, turns in ipairs(KEYS) do
  for _, owner in ipairs(redis.call('ZRANGE', turns, 0, -1)) do
    if not busy(owner) then return redis.call('ZRANGE', turns .. ':' .. owner, 0, 0)[1] end
  end
end
return false
"""
)

# KEYS: as above. Answers how many of these jobs could begin, if there were workers for all of them.
WAITING = (
    "local space = ARGV[1]"
    + _BUSY
    + """
local count = 0
for _, turns in ipairs(KEYS) do
  for _, owner in ipairs(redis.call('ZRANGE', turns, 0, -1)) do
    if not busy(owner) then count = count + redis.call('ZCARD', turns .. ':' .. owner) end
  end
end
return count
"""
)

# KEYS: as above. Takes an id out of its lane, whosever that is, and out of what its owner has queued.
FORGET = """
local space, id = ARGV[1], ARGV[2]
for _, turns in ipairs(KEYS) do
  for _, owner in ipairs(redis.call('ZRANGE', turns, 0, -1)) do
    local lane = turns .. ':' .. owner
    if redis.call('ZREM', lane, id) == 1 then
      redis.call('ZREM', space .. 'index:' .. owner .. ':queued', id)
      if redis.call('EXISTS', lane) == 0 then redis.call('ZREM', turns, owner) end
    end
  end
end
"""

# KEYS: `order`. ARGV: where turns' names begin, the number of networks, their names; then id, network, rank, owner of
# each job asked for. Answers for each how many jobs come before it, -1 where it is not queued.
AHEAD = """
local prefix, networks, rings, answer = ARGV[1], {}, {}, {}
for i = 3, 2 + ARGV[2] do networks[#networks + 1] = ARGV[i] end
local function ring(name)
  if not rings[name] then
    local found = {total = 0}
    for place, owner in ipairs(redis.call('ZRANGE', name, 0, -1)) do
      local jobs = redis.call('ZCARD', name .. ':' .. owner)
      found[place] = {owner, jobs}
      found.total = found.total + jobs
    end
    rings[name] = found
  end
  return rings[name]
end
for i = 3 + ARGV[2], #ARGV, 4 do
  local id, network, rank, owner = unpack(ARGV, i, i + 3)
  local name = prefix .. network .. ':' .. rank
  local own = redis.call('ZRANK', name .. ':' .. owner, id)
  local ahead = own or -1
  if own then
    local reached = false
    for _, other in ipairs(ring(name)) do
      if other[1] == owner then
        reached = true
      else
        ahead = ahead + math.min(other[2], reached and own or own + 1)
      end
    end
    local here = ahead
    for _, other in ipairs(networks) do  -- the broker lets the networks take turns
      if other ~= network then ahead = ahead + math.min(here, ring(prefix .. other .. ':' .. rank).total) end
    end
    ahead = ahead + redis.call('ZCOUNT', KEYS[1], '-inf', string.format('(%.0f', rank * 1e13))
  end
  answer[#answer + 1] = ahead
end
return answer
"""


class Turns:
    """The order in which queued jobs begin; any number of threads may use it."""

    def __init__(self, client: redis.Redis):
        self._next = client.register_script(NEXT)
        self._waiting = client.register_script(WAITING)
        self._ahead = client.register_script(AHEAD)
        self._forget = client.register_script(FORGET)
        self._redis = client

    def next(self, network: NetworkChoice) -> str | None:
        """The id of the job that is to begin next of those for a network; None when none may."""
        found: Any = self._next(keys=_rings(network), args=[SPACE])
        return None if found is None else str(found)

    def forget(self, network: NetworkChoice, job_id: str) -> None:
        """Take an id out that no job has: its record was deleted by hand, or evicted, and nobody can claim it."""
        self._forget(keys=_rings(network), args=[SPACE, job_id])
        for name in (QUEUED, ORDER, STARTS):
            self._redis.zrem(name, job_id)

    def waiting(self, network: NetworkChoice) -> int:
        """How many jobs for a network wait for nothing but a worker."""
        found: Any = self._waiting(keys=_rings(network), args=[SPACE])
        return int(found)

    def ahead(self, jobs: Sequence[Job]) -> list[int | None]:
        """Of each job, how many queued ones come before it, as things are now; None when it is not queued.

        All networks are counted, as if every worker had all of them. The cost grows with the owners of queued jobs, not
        with the jobs.
        """
        asked: list[str | int] = [TURNS, len(NETWORKS), *NETWORKS]
        for job in jobs:
            asked += [job.id, job.parameters.network, RANKS[job.parameters.priority], job.owner or ""]
        found: Any = self._ahead(keys=[ORDER], args=asked)
        return [None if count < 0 else int(count) for count in found]


def _rings(network: NetworkChoice) -> list[str]:
    return [f"{TURNS}{network}:{rank}" for rank in RANKS.values()]
