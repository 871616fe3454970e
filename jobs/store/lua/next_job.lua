-- include: ready_owners
-- Answers the id of the job of a network that begins next, or nothing.
return each_owner(function(lane, _, owner)
  return not at_limit(owner, 'running') and redis.call('ZRANGE', lane, 0, 0)[1]
end)
