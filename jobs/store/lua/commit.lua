-- include: clock
-- include: owner_limits
-- include: delivery_queue
-- include: batch
-- Write a job if its sequence number is still the expected one, and update everything that depends on its state.
-- Answers the new sequence number, 0 when another writer was faster, or the reason of a refusal as a word.

local id, owner, status = args.id, args.owner, args.status
local stored = redis.call('HMGET', keys.job, 'seq', 'status', 'by:' .. status, 'batch')
local before, last_token = stored[2], stored[3]
local batch = before and (stored[4] or '') or args.batch
local scope = owner .. '/' .. batch
local seq = tonumber(args.expected_seq) + 1

if (stored[1] or '0') ~= args.expected_seq then
  -- A client that got no answer sends its command again. If the first one was carried out, this is its answer.
  return last_token == args.token and seq or 0
end

-- Whether the batch takes no further job.
local function batch_is_full()
  local facts = redis.call('HMGET', string.format(keys.batch_pattern, scope), 'size', 'jobs', 'completed')
  local size = args.batch_size ~= '' and args.batch_size or facts[1]
  return facts[3] or (size and tonumber(facts[2] or '0') >= tonumber(size))
end

local function refusal()
  if args.only_if_lease_is_dead == '1' then
    local lease_end = redis.call('ZSCORE', keys.leases, id)
    if lease_end and tonumber(lease_end) > now then return 'lease-alive' end
  end
  if status == 'queued' and (not before or before == 'failed') then
    if redis.call('ZCARD', keys.queued) >= tonumber(args.max_queued_jobs) then return 'queue-full' end
    if at_limit(owner, 'queued') then return 'too-many-queued' end
    if not before and batch ~= '' and batch_is_full() then return 'batch-full' end
  elseif status == 'running' and before == 'queued' then
    if at_limit(owner, 'running') then return 'too-many-running' end
  end
end

-- The job's end makes room for another one of its owner. Messages that came while there was no room started nothing, so
-- the first job of each network gets a new one. One message too many does no harm.
local function release_next()
  if before ~= 'running' or status == 'running' or not job_limit(owner, 'running') then return end
  for _, network in ipairs(cjson.decode(args.networks)) do
    local first
    for rank = 0, args.ranks - 1 do
      first = first or redis.call('ZRANGE', string.format(keys.lane_pattern, network, rank, owner), 0, 0)[1]
    end
    if first then redis.call('RPUSH', keys.released, first) end
  end
end

local function count()
  local event = status
  if status == 'queued' then event = not before and 'accepted' or before == 'running' and 'requeued' or 'retried' end
  redis.call('HINCRBY', keys.totals, event, 1)
  if args.error_code ~= '' then redis.call('HINCRBY', keys.totals, 'failed:' .. args.error_code, 1) end
end

-- See jobs.store.fair_queue.
local ring = string.format(keys.ring_pattern, args.network, args.rank)
local lane = string.format(keys.lane_pattern, args.network, args.rank, owner)

local function next_turn()
  redis.call('ZADD', ring, redis.call('INCR', keys.turn), owner)
end

local function leave_queue()
  redis.call('ZREM', keys.queued, id)
  redis.call('ZREM', keys.order, id)
  redis.call('ZREM', keys.starts, id)
  redis.call('ZREM', lane, id)
  if redis.call('EXISTS', lane) == 0 then
    redis.call('ZREM', ring, owner)
  elseif status == 'running' then
    next_turn()
  end
end

local function enter_queue()
  redis.call('ZADD', keys.queued, now, id)
  redis.call('ZADD', keys.order, args.order_base + now, id)
  -- A job that a worker gave back goes before those of its owner that came after it: an id begins with its time.
  redis.call('ZADD', lane, before == 'running' and tonumber(string.sub(id, 1, 12), 16) or now, id)
  if not redis.call('ZSCORE', ring, owner) then next_turn() end
  if args.start_by_ms ~= '' then redis.call('ZADD', keys.starts, args.start_by_ms, id) end
  redis.call('ZREM', keys.leases, id)
  redis.call('ZREM', keys.expiry, id)
end

local function expire()
  redis.call('ZREM', keys.expiry, id)
  redis.call('ZREM', keys.inputs, id)
  redis.call('ZADD', keys.deletions, now, id)
  redis.call('PEXPIRE', keys.job, args.tombstone_ms)
  redis.call('PEXPIRE', keys.events, args.tombstone_ms)
  if redis.call('EXISTS', keys.pending) == 0 then redis.call('PEXPIRE', keys.deliveries, args.tombstone_ms) end
end

local function become_final()
  redis.call('ZREM', keys.leases, id)
  redis.call('ZADD', keys.expiry, args.expires_ms, id)
  if status ~= 'failed' and args.keep_inputs == '0' then redis.call('ZADD', keys.inputs, now, id) end
end

local function join_batch()
  local facts = string.format(keys.batch_pattern, scope)
  redis.call('HSET', keys.job, 'batch', batch)
  redis.call('HSETNX', facts, 'created', now)
  redis.call('HINCRBY', facts, 'jobs', 1)
  redis.call('PERSIST', facts)
  if args.batch_size ~= '' then redis.call('HSET', facts, 'size', args.batch_size) end
  if args.batch_url ~= '' then redis.call('HSETNX', facts, 'url', args.batch_url) end
end

-- A batch without jobs is remembered as long as they are.
local function leave_batch()
  local facts = string.format(keys.batch_pattern, scope)
  redis.call('HINCRBY', facts, 'deleted', 1)
  for _, count in pairs(batch_counts(scope)) do
    if count > 0 then return end
  end
  redis.call('PEXPIRE', facts, args.tombstone_ms)
end

-- The index of a scope, which is an owner or one of its batches, has each job under its state.
local function move_in_index(of)
  if before then redis.call('ZREM', string.format(keys.index_pattern, of, before), id) end
  if status ~= 'expired' then redis.call('ZADD', string.format(keys.index_pattern, of, status), 0, id) end
end

local refused = refusal()
if refused then return refused end
release_next()
redis.call('HSET', keys.job, 'seq', seq, 'status', status, 'attempt', args.attempt, 'cancel', args.cancel,
  'record', args.record, 'progress', args.progress, 'by:' .. status, args.token)
redis.call('XADD', keys.events, 'MAXLEN', args.events_per_job, '*',
  'seq', seq, 'kind', status, 'data', args.progress == '' and '{}' or args.progress)
redis.call('PUBLISH', keys.changes, id)
if before ~= status then
  count()
  move_in_index(owner)
end
if batch ~= '' and before ~= status then
  move_in_index(scope)
  if not before then join_batch() end
  if status == 'expired' then leave_batch() end
  complete_batch(scope)
end
if args.dead_letter == '1' then
  redis.call('ZADD', keys.dead_letters, now, id)
else
  redis.call('ZREM', keys.dead_letters, id)
end
if before == 'queued' then leave_queue() end
if status == 'queued' then
  enter_queue()
elseif status == 'running' then
  redis.call('ZADD', keys.leases, 'NX', now + args.lease_ms, id)  -- a change of a running job renews no lease
elseif status == 'expired' then
  expire()
else
  become_final()
end
if args.delivery_id ~= '' then enqueue_delivery() end
if args.first_progress_ms ~= '' then
  redis.call('HSET', keys.deliveries, 'progress_at', now + args.first_progress_ms)
end
return seq
