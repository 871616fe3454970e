-- include: clock
-- include: deliveries
-- Record the end of an attempt. Answers 1, or 0 when the lease was lost and another dispatcher has the delivery since.
local deliveries, pending, delivery = keys.deliveries, keys.pending, args.delivery_id
local lease = redis.call('HMGET', deliveries, 'claims', 'held')
if lease[1] ~= args.token or lease[2] ~= delivery then return 0 end
redis.call('HSET', deliveries, 'a:' .. delivery, args.attempts)
redis.call('HDEL', deliveries, 'held')
local event, state = redis.call('HGET', deliveries, 'e:' .. delivery), args.state
if state == 'pending' and not is_final(event) and redis.call('LLEN', pending) > 1 then state = 'superseded' end

local function disable_the_others()
  redis.call('HSET', deliveries, 'disabled', 1)
  for _, other in ipairs(redis.call('LRANGE', pending, 0, -1)) do
    redis.call('HSET', deliveries, 's:' .. other, 'disabled')
  end
  redis.call('DEL', pending)
end

-- Of the deliveries of progress that are done, only the newest is kept.
local function forget_earlier_progress()
  local old = redis.call('HGET', deliveries, 'old')
  if old and old ~= delivery and redis.call('HGET', deliveries, 's:' .. old) ~= 'pending' then
    redis.call('HDEL', deliveries, 'd:' .. old, 'e:' .. old, 's:' .. old, 'a:' .. old, 'b:' .. old)
  end
  redis.call('HSET', deliveries, 'old', delivery)
end

if state == 'pending' then
  redis.call('ZADD', keys.due, now + args.delay_ms, args.id)
else
  redis.call('HSET', deliveries, 's:' .. delivery, state)
  redis.call('LPOP', pending)
  if args.disable == '1' then disable_the_others() end
  if event == 'job.progress' then forget_earlier_progress() end
  if redis.call('EXISTS', pending) == 1 then
    redis.call('ZADD', keys.due, now, args.id)
  else
    redis.call('ZREM', keys.due, args.id)
    local status = redis.call('HGET', keys.job, 'status')
    if not status or status == 'expired' then redis.call('PEXPIRE', deliveries, args.tombstone_ms) end
  end
end
update_destination(args.destination)
return 1
