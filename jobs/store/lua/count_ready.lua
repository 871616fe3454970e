-- include: ready_owners
-- Answers how many jobs of a network could begin if there were workers for all of them.
local count = 0
each_owner(function(lane, _, owner)
  if not at_limit(owner, 'running') then count = count + redis.call('ZCARD', lane) end
end)
return count
