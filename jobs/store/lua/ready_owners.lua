-- include: owner_limits

-- Call `use(lane, ring, owner)` for every owner with queued jobs of the network, in the order of their turns, until it
-- answers something; that is the answer.
local function each_owner(use)
  for rank = 0, args.ranks - 1 do
    local ring = string.format(keys.ring_pattern, args.network, rank)
    for _, owner in ipairs(redis.call('ZRANGE', ring, 0, -1)) do
      local found = use(string.format(keys.lane_pattern, args.network, rank, owner), ring, owner)
      if found then return found end
    end
  end
  return false
end
