-- The most jobs that the owner's API key allows in a state; nil or false without such a limit.
local function job_limit(owner, status)
  local limits = redis.call('HGET', string.format(keys.api_key_pattern, owner), 'limits')
  return limits and tonumber(cjson.decode(limits)[status .. '_jobs'])
end

-- Whether the owner has as many jobs in a state, `queued` or `running`, as its API key allows.
local function at_limit(owner, status)
  local most = job_limit(owner, status)
  return most and redis.call('ZCARD', string.format(keys.index_pattern, owner, status)) >= most
end
