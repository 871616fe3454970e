-- include: clock
-- Write the progress of an attempt.
-- Answers nothing when the attempt is over, else two numbers, 1 or 0: whether a cancel is wanted, and whether the job's
-- webhook is to be told.
local state = redis.call('HMGET', keys.job, 'status', 'attempt', 'cancel')
if state[1] ~= 'running' or state[2] ~= args.attempt then return false end
local seq = redis.call('HINCRBY', keys.job, 'seq', 1)
redis.call('HSET', keys.job, 'progress', args.progress)
redis.call('XADD', keys.events, 'MAXLEN', args.events_per_job, '*',
  'seq', seq, 'kind', 'progress', 'data', args.progress)
redis.call('PUBLISH', keys.changes, args.id)
local due = redis.call('HGET', keys.deliveries, 'progress_at')
if not due or tonumber(due) > now then return {tonumber(state[3]), 0} end
redis.call('HSET', keys.deliveries, 'progress_at', now + args.interval_ms)
return {tonumber(state[3]), 1}
