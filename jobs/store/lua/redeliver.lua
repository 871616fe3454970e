-- include: clock
-- include: deliveries
-- Send a delivery once more, now. Answers 1, or 0 when there is no such delivery.
local deliveries, delivery = keys.deliveries, args.delivery_id
local state = redis.call('HGET', deliveries, 's:' .. delivery)
if not state then return 0 end
redis.call('HDEL', deliveries, 'disabled')
redis.call('PERSIST', deliveries)
if state ~= 'pending' then
  local earlier = #cjson.decode(redis.call('HGET', deliveries, 'a:' .. delivery) or '[]')
  redis.call('HSET', deliveries, 's:' .. delivery, 'pending', 'b:' .. delivery, earlier)
  redis.call('RPUSH', keys.pending, delivery)
end
if redis.call('LINDEX', keys.pending, 0) ~= redis.call('HGET', deliveries, 'held') then
  redis.call('ZADD', keys.due, now, args.id)
end
update_destination(args.destination)
return 1
