"""The Lua scripts that make each change of a job one atomic step. The server's clock is the only clock.

Keys of a job: a hash (`seq`, `status`, `attempt`, `cancel`, `record`, `progress`, and in `by:<status>` the token of the
last change that ended in that state) and a stream of events. Keys of all jobs, sorted sets by time in milliseconds:
`queued`, `leases`, `expiry`, `deletions`, `starts` (until when a worker has to have begun) and `inputs` (since when
image and mask are not needed any more). `order` has the queued jobs by priority and the time since when they wait.
`index:<owner>:<status>` has the ids of an owner's jobs, which sort by age. `turns:…` say whose job is next: see
jobs.store.fair_queue. When a job ends whose owner may have only so many running ones, one of its queued jobs gets a new
message, through the list `released`. `dead-letters` has the failed jobs that the operator should look at, by the time
when they failed. `totals`, a hash, counts what has happened to jobs: see jobs.telemetry.overview.
"""

# Before a script: it runs also when the store is full (`maxmemory`), as changes do that let jobs end and be deleted.
EVEN_WHEN_FULL = "#!lua flags=allow-oom\n"

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

# A webhook delivery joins its job's queue; see jobs.store.deliveries for the keys. `held` is the delivery being sent.
_ENQUEUE = """
local function enqueue(hook, pending, hosts, due, job_id, now, delivery, event, host, record)
  redis.call('HSET', hook, 'd:' .. delivery, record, 'e:' .. delivery, event, 's:' .. delivery, 'pending')
  if redis.call('HEXISTS', hook, 'disabled') == 1 then
    redis.call('HSET', hook, 's:' .. delivery, 'disabled')
    return
  end
  local held = redis.call('HGET', hook, 'held')
  local last = redis.call('LINDEX', pending, -1)
  if event == 'job.progress' and last and last ~= held and redis.call('HGET', hook, 'e:' .. last) == event then
    redis.call('RPOP', pending)  -- of progress, only the newest waits
    redis.call('HDEL', hook, 'd:' .. last, 'e:' .. last, 's:' .. last, 'a:' .. last)
  end
  redis.call('RPUSH', pending, delivery)
  local head = redis.call('LINDEX', pending, 0)
  local of_head = redis.call('HGET', hook, 'e:' .. head)
  if head == delivery or (head ~= held and (of_head == 'job.started' or of_head == 'job.progress')) then
    redis.call('ZADD', due, now, job_id)  -- one that is not final is tried a last time, at once
  end
  redis.call('ZADD', hosts, redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2], host)
end
"""

# Compare-and-set of the whole record. Answers the new seq; 0: somebody was faster; -1: the lease still lives; -2: the
# owner may not have more running jobs; -3: the queue is full; -4: the owner may not have more queued jobs.
COMMIT = (
    _NOW
    + _ENQUEUE
    + """
local job, events, queued, leases, expiry, deletions, order, starts, inputs, index = unpack(KEYS)
local owner, turns, turn, released, dead, totals = unpack(KEYS, 11, 16)
local hook, pending, hosts, due = unpack(KEYS, #KEYS - 3)
local delivery, told, host, hook_record, progress_ms = unpack(ARGV, #ARGV - 4)
local id, expected, status, attempt, cancel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local record, progress, event, kind = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local lease_ms, expires_ms = tonumber(ARGV[10]), tonumber(ARGV[11])
local tombstone_ms, cap, only_dead = tonumber(ARGV[12]), ARGV[13], ARGV[14]
local rank, start_ms, keep_inputs = tonumber(ARGV[15]), tonumber(ARGV[16]), ARGV[17]
local most_queued, dead_letter, code = tonumber(ARGV[18]), ARGV[19], ARGV[20]
local owner_id, network, networks, token = ARGV[21], ARGV[22], ARGV[23], ARGV[24]
if (redis.call('HGET', job, 'seq') or '0') ~= expected then
  -- A client that got no answer sends the command again: if the first one was carried out, this is its answer.
  return redis.call('HGET', job, 'by:' .. status) == token and tonumber(expected) + 1 or 0
end
if only_dead == '1' then
  local lease = redis.call('ZSCORE', leases, id)
  if lease and tonumber(lease) > now then return -1 end
end
local seq = tonumber(expected) + 1
local before = redis.call('HGET', job, 'status')
local limits = cjson.decode(redis.call('HGET', owner, 'limits') or '{}')
if status == 'queued' and (not before or before == 'failed') then
  if redis.call('ZCARD', queued) >= most_queued then return -3 end
  local most = tonumber(limits.queued_jobs)
  if most and redis.call('ZCARD', index .. 'queued') >= most then return -4 end
elseif status == 'running' and before == 'queued' then
  local most = tonumber(limits.running_jobs)
  if most and redis.call('ZCARD', index .. 'running') >= most then return -2 end
elseif before == 'running' and status ~= 'running' and tonumber(limits.running_jobs) then
  -- Messages that came while the owner had no room for another job called nobody. One too many does no harm.
  for name in string.gmatch(networks, '[^,]+') do
    local first
    for r = 0, 2 do
      first = first or redis.call('ZRANGE', turns .. name .. ':' .. r .. ':' .. owner_id, 0, 0)[1]
    end
    if first then redis.call('RPUSH', released, first) end
  end
end
redis.call('HSET', job, 'seq', seq, 'status', status, 'attempt', attempt, 'cancel', cancel, 'record', record,
  'progress', progress, 'by:' .. status, token)
if before ~= status then
  local came = status
  if status == 'queued' then came = not before and 'accepted' or before == 'running' and 'requeued' or 'retried' end
  redis.call('HINCRBY', totals, came, 1)
  if code ~= '' then redis.call('HINCRBY', totals, 'failed:' .. code, 1) end
end
redis.call('ZREM', queued, id)
redis.call('ZREM', order, id)
redis.call('ZREM', starts, id)
local ring = turns .. network .. ':' .. ARGV[15]
local lane = ring .. ':' .. owner_id
if before == 'queued' then
  redis.call('ZREM', lane, id)
  if redis.call('EXISTS', lane) == 0 then
    redis.call('ZREM', ring, owner_id)
  elseif status == 'running' then
    redis.call('ZADD', ring, redis.call('INCR', turn), owner_id)
  end
end
if dead_letter == '1' then redis.call('ZADD', dead, now, id) else redis.call('ZREM', dead, id) end
if before and before ~= status then redis.call('ZREM', index .. before, id) end
if status ~= 'expired' then redis.call('ZADD', index .. status, 0, id) end
if status == 'queued' then
  redis.call('ZADD', queued, now, id)
  redis.call('ZADD', order, rank * 1e13 + now, id)
  -- One that a worker had already goes before those of its owner that came after it: ids begin with their time.
  redis.call('ZADD', lane, before == 'running' and tonumber(string.sub(id, 1, 12), 16) or now, id)
  if not redis.call('ZSCORE', ring, owner_id) then redis.call('ZADD', ring, redis.call('INCR', turn), owner_id) end
  if start_ms > 0 then redis.call('ZADD', starts, start_ms, id) end
  redis.call('ZREM', leases, id)
  redis.call('ZREM', expiry, id)
elseif status == 'running' then
  redis.call('ZADD', leases, 'NX', now + lease_ms, id)
elseif status == 'expired' then
  redis.call('ZREM', expiry, id)
  redis.call('ZREM', inputs, id)
  redis.call('ZADD', deletions, now, id)
  redis.call('PEXPIRE', job, tombstone_ms)
else
  redis.call('ZREM', leases, id)
  redis.call('ZADD', expiry, expires_ms, id)
  if status ~= 'failed' and keep_inputs == '0' then redis.call('ZADD', inputs, now, id) end
end
redis.call('XADD', events, 'MAXLEN', cap, '*', 'seq', seq, 'kind', kind, 'data', event)
if status == 'expired' then
  redis.call('PEXPIRE', events, tombstone_ms)
  if redis.call('EXISTS', pending) == 0 then redis.call('PEXPIRE', hook, tombstone_ms) end
end
if delivery ~= '' then enqueue(hook, pending, hosts, due, id, now, delivery, told, host, hook_record) end
if progress_ms ~= '' then redis.call('HSET', hook, 'progress_at', now + tonumber(progress_ms)) end
return seq
"""
)

# Progress of an attempt. Answers -1: the attempt is over; else a sum of 1: a cancel is wanted, and 2: the job's
# webhook is to be told.
PROGRESS = (
    _NOW
    + """
local job, events, hook = KEYS[1], KEYS[2], KEYS[3]
local state = redis.call('HMGET', job, 'status', 'attempt', 'cancel')
if state[1] ~= 'running' or state[2] ~= ARGV[1] then return -1 end
local seq = redis.call('HINCRBY', job, 'seq', 1)
redis.call('HSET', job, 'progress', ARGV[2])
redis.call('XADD', events, 'MAXLEN', ARGV[3], '*', 'seq', seq, 'kind', 'progress', 'data', ARGV[2])
local at = redis.call('HGET', hook, 'progress_at')
if not at or tonumber(at) > now then return tonumber(state[3]) end
redis.call('HSET', hook, 'progress_at', now + tonumber(ARGV[4]))
return tonumber(state[3]) + 2
"""
)

# A webhook event that belongs to a running attempt and is no change of the job. Answers 1, or 0 when it is over.
TELL_PROGRESS = (
    _NOW
    + _ENQUEUE
    + """
local state = redis.call('HMGET', KEYS[1], 'status', 'attempt')
if state[1] ~= 'running' or state[2] ~= ARGV[2] then return 0 end
enqueue(KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], now, ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
"""
)

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
