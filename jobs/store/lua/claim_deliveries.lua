-- include: clock
-- include: deliveries
-- Lease the first deliveries of up to `count` jobs that are due at a destination. Answers for each its job id, fencing token,
-- record, attempts, and how many of the attempts came before the last redelivery by hand.
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.due, '-inf', now, 'LIMIT', 0, args.count)) do
  local deliveries = string.format(keys.deliveries_pattern, id)
  local pending = string.format(keys.pending_pattern, id)
  local first = redis.call('LINDEX', pending, 0)
  if first and redis.call('HEXISTS', deliveries, 'd:' .. first) == 1 then
    local token = redis.call('HINCRBY', deliveries, 'claims', 1)
    redis.call('HSET', deliveries, 'held', first)
    redis.call('ZADD', keys.due, now + args.lease_ms, id)
    local kept = redis.call('HMGET', deliveries, 'd:' .. first, 'a:' .. first, 'b:' .. first)
    table.insert(found, {id, token, kept[1], kept[2] or '[]', kept[3] or '0'})
  elseif not redis.call('LPOP', pending) then
    redis.call('ZREM', keys.due, id)
  end
end
update_destination(args.destination)
return found
