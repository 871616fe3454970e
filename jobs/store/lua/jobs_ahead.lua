-- Answers for each job how many queued jobs begin before it, or -1 where it is not queued.
-- args.jobs: for each job its id, network, rank, owner, and the `order` that jobs of its rank begin with.

local rings = {}

-- The owners with jobs of a network and rank, in the order of their turns, each with the number of its jobs.
local function ring_of(network, rank)
  local name = string.format(keys.ring_pattern, network, rank)
  if not rings[name] then
    local ring = {total = 0}
    for place, owner in ipairs(redis.call('ZRANGE', name, 0, -1)) do
      local jobs = redis.call('ZCARD', string.format(keys.lane_pattern, network, rank, owner))
      ring[place] = {owner = owner, jobs = jobs}
      ring.total = ring.total + jobs
    end
    rings[name] = ring
  end
  return rings[name]
end

-- Jobs of the same network and rank that begin before the owner's job number `own`, counted from 0.
local function ahead_in_ring(job, own)
  local ahead, passed = own, false
  for _, other in ipairs(ring_of(job.network, job.rank)) do
    if other.owner == job.owner then
      passed = true
    else
      ahead = ahead + math.min(other.jobs, passed and own or own + 1)
    end
  end
  return ahead
end

local answer, networks = {}, cjson.decode(args.networks)
for _, job in ipairs(cjson.decode(args.jobs)) do
  local ahead = -1
  local own = redis.call('ZRANK', string.format(keys.lane_pattern, job.network, job.rank, job.owner), job.id)
  if own then
    local in_ring = ahead_in_ring(job, own)
    ahead = in_ring
    for _, other in ipairs(networks) do  -- the broker lets the networks take turns
      if other ~= job.network then ahead = ahead + math.min(in_ring, ring_of(other, job.rank).total) end
    end
    ahead = ahead + redis.call('ZCOUNT', keys.order, '-inf', '(' .. job.order_base)
  end
  answer[#answer + 1] = ahead
end
return answer
