-- include: clock
-- Renew the lease of an attempt. Answers 1, or 0 when the attempt is over.
local state = redis.call('HMGET', keys.job, 'status', 'attempt')
if state[1] ~= 'running' or state[2] ~= args.attempt then return 0 end
redis.call('ZADD', keys.leases, now + args.lease_ms, args.id)
return 1
