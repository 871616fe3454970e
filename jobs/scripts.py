"""The Lua scripts that make each change of a job one atomic step. The server's clock is the only clock.

Keys of a job: a hash (`seq`, `status`, `attempt`, `cancel`, `record`, `progress`) and a stream of events.
Keys of all jobs, sorted sets by time in milliseconds: `queued`, `leases`, `expiry`, `deletions`.
"""

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

# Compare-and-set of the whole record. Answers the new seq; 0: somebody was faster; -1: the lease still lives.
COMMIT = (
    _NOW
    + """
local job, events, queued, leases, expiry, deletions = unpack(KEYS)
local id, expected, status, attempt, cancel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local record, progress, event, kind = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local lease_ms, expires_ms = tonumber(ARGV[10]), tonumber(ARGV[11])
local tombstone_ms, cap, only_dead = tonumber(ARGV[12]), ARGV[13], ARGV[14]
if (redis.call('HGET', job, 'seq') or '0') ~= expected then return 0 end
if only_dead == '1' then
  local lease = redis.call('ZSCORE', leases, id)
  if lease and tonumber(lease) > now then return -1 end
end
local seq = tonumber(expected) + 1
redis.call('HSET', job, 'seq', seq, 'status', status, 'attempt', attempt, 'cancel', cancel, 'record', record,
  'progress', progress)
redis.call('ZREM', queued, id)
if status == 'queued' then
  redis.call('ZADD', queued, now, id)
  redis.call('ZREM', leases, id)
elseif status == 'running' then
  redis.call('ZADD', leases, 'NX', now + lease_ms, id)
elseif status == 'expired' then
  redis.call('ZREM', expiry, id)
  redis.call('ZADD', deletions, now, id)
  redis.call('PEXPIRE', job, tombstone_ms)
else
  redis.call('ZREM', leases, id)
  redis.call('ZADD', expiry, expires_ms, id)
end
redis.call('XADD', events, 'MAXLEN', cap, '*', 'seq', seq, 'kind', kind, 'data', event)
if status == 'expired' then redis.call('PEXPIRE', events, tombstone_ms) end
return seq
"""
)

# Progress of an attempt. Answers 0: written, 1: written and a cancel is wanted, -1: the attempt is over.
PROGRESS = """
local job, events = KEYS[1], KEYS[2]
local state = redis.call('HMGET', job, 'status', 'attempt', 'cancel')
if state[1] ~= 'running' or state[2] ~= ARGV[1] then return -1 end
local seq = redis.call('HINCRBY', job, 'seq', 1)
redis.call('HSET', job, 'progress', ARGV[2])
redis.call('XADD', events, 'MAXLEN', ARGV[3], '*', 'seq', seq, 'kind', 'progress', 'data', ARGV[2])
return tonumber(state[3])
"""

# Renew the lease of an attempt. Answers 1, or 0 when the attempt is over.
RENEW = (
    _NOW
    + """
local state = redis.call('HMGET', KEYS[1], 'status', 'attempt')
if state[1] ~= 'running' or state[2] ~= ARGV[2] then return 0 end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
return 1
"""
)
