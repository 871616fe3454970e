-- What a job's change means for its batch. jobs.store.batches describes the keys.
local STATES = {'queued', 'running', 'succeeded', 'failed', 'canceled'}

-- How many jobs of a batch are in each state, by state.
local function batch_counts(scope)
  local counts = {}
  for _, state in ipairs(STATES) do
    counts[state] = redis.call('ZCARD', string.format(keys.index_pattern, scope, state))
  end
  return counts
end

-- Complete a batch when as many jobs as its size have been accepted and all of them are final. It happens once.
local function complete_batch(scope)
  local batch = string.format(keys.batch_pattern, scope)
  local facts = redis.call('HMGET', batch, 'size', 'jobs', 'completed', 'url')
  local size, jobs, completed, url = facts[1], facts[2], facts[3], facts[4]
  if completed or not size or tonumber(jobs) < tonumber(size) then return end
  local counts = batch_counts(scope)
  if counts.queued + counts.running > 0 then return end
  redis.call('HSET', batch, 'completed', now)
  if url then
    redis.call('RPUSH', keys.completed_batches, cjson.encode({
      scope = scope, url = url, at = now, jobs = tonumber(jobs), succeeded = counts.succeeded, failed = counts.failed,
      canceled = counts.canceled, deleted = tonumber(redis.call('HGET', batch, 'deleted') or '0')
    }))
  end
end
