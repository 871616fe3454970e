-- include: ready_owners
-- Take an id without a job out of the queue of its network, whoever its owner was.
each_owner(function(lane, ring, owner)
  if redis.call('ZREM', lane, args.id) == 1 then
    redis.call('ZREM', string.format(keys.index_pattern, owner, 'queued'), args.id)
    if redis.call('EXISTS', lane) == 0 then redis.call('ZREM', ring, owner) end
  end
end)
redis.call('ZREM', keys.queued, args.id)
redis.call('ZREM', keys.order, args.id)
redis.call('ZREM', keys.starts, args.id)
