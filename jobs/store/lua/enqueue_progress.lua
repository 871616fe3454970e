-- include: delivery_queue
-- Queue a webhook event about a running attempt that is no change of the job. Answers 1, or 0 when the attempt is over.
local state = redis.call('HMGET', keys.job, 'status', 'attempt')
if state[1] ~= 'running' or state[2] ~= args.attempt then return 0 end
enqueue_delivery()
return 1
