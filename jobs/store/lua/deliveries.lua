-- Set when the host's first delivery is due. A host without deliveries leaves the set.
local function update_host(host)
  local first = redis.call('ZRANGE', keys.due, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', keys.delivery_hosts, first[2], host)
  else
    redis.call('ZREM', keys.delivery_hosts, host)
  end
end

-- Whether an event ends its job. Any newer event may overtake the others.
local function is_final(event)
  return event ~= 'job.started' and event ~= 'job.progress'
end
