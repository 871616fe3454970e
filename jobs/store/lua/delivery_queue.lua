-- include: clock
-- include: deliveries

-- Put the delivery that the call describes into the queue of its job. jobs.store.deliveries describes the keys.
local function enqueue_delivery()
  local deliveries, pending, new = keys.deliveries, keys.pending, args.delivery_id
  redis.call('HSET', deliveries, 'd:' .. new, args.delivery_record, 'e:' .. new, args.delivery_event)
  if redis.call('HEXISTS', deliveries, 'disabled') == 1 then
    redis.call('HSET', deliveries, 's:' .. new, 'disabled')
    return
  end
  redis.call('HSET', deliveries, 's:' .. new, 'pending')
  local sending = redis.call('HGET', deliveries, 'held')
  local last = redis.call('LINDEX', pending, -1)
  if args.delivery_event == 'job.progress' and last and last ~= sending
      and redis.call('HGET', deliveries, 'e:' .. last) == 'job.progress' then
    redis.call('RPOP', pending)  -- of progress, only the newest waits
    redis.call('HDEL', deliveries, 'd:' .. last, 'e:' .. last, 's:' .. last, 'a:' .. last)
  end
  redis.call('RPUSH', pending, new)
  local first = redis.call('LINDEX', pending, 0)
  if first == new or (first ~= sending and not is_final(redis.call('HGET', deliveries, 'e:' .. first))) then
    redis.call('ZADD', keys.due, now, args.id)  -- an overtaken delivery is tried a last time, at once
  end
  update_destination(args.destination)
end
