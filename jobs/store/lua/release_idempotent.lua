-- Unlock an Idempotency-Key. It is forgotten unless it names a job, which may have been made.
if redis.call('HGET', keys.record, 'token') ~= args.token then return end
if redis.call('HEXISTS', keys.record, 'job_id') == 1 then
  redis.call('HSET', keys.record, 'until', 0)
else
  redis.call('DEL', keys.record)
end
