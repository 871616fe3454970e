-- include: clock
-- Write fields and renew the lock of an Idempotency-Key. Answers 1, or 0 when another request has the lock.
if redis.call('HGET', keys.record, 'token') ~= args.token then return 0 end
redis.call('HSET', keys.record, 'until', now + args.lock_ms)
for name, value in pairs(cjson.decode(args.fields)) do redis.call('HSET', keys.record, name, value) end
return 1
