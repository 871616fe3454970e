-- Set when the first delivery to a destination is due. A destination without deliveries leaves the set.
local function update_destination(destination)
  local first = redis.call('ZRANGE', keys.due, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', keys.destinations, first[2], destination)
  else
    redis.call('ZREM', keys.destinations, destination)
  end
end

-- Whether an event ends its job. Any newer event may overtake the others.
local function is_final(event)
  return event ~= 'job.started' and event ~= 'job.progress'
end
