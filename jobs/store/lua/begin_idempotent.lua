-- include: clock
-- Look an Idempotency-Key up, and lock it for the caller if it is free.
-- Answers {token, fingerprint, job_id, answer}: with an answer, the key is done; with the token of the caller, the caller
-- has it; with neither, another request has it.
local found = redis.call('HMGET', keys.record, 'fingerprint', 'job_id', 'answer', 'until', 'token')
if found[3] then return {'', found[1], found[2], found[3]} end
-- A client that got no answer sends its command again: with the same token, the lock is the caller's already.
if found[4] and tonumber(found[4]) > now and found[5] ~= args.token then return {'', '', '', ''} end
redis.call('HSET', keys.record, 'token', args.token, 'until', now + args.lock_ms)
redis.call('PEXPIRE', keys.record, args.keep_ms)
return {args.token, found[1] or '', found[2] or '', ''}
