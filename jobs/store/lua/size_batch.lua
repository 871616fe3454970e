-- include: clock
-- include: batch
-- Set the size of a batch. Answers 1, or a word: `unknown`, or `full` when it is complete or has more jobs than that.
local batch = string.format(keys.batch_pattern, args.scope)
local facts = redis.call('HMGET', batch, 'jobs', 'completed')
if not facts[1] then return 'unknown' end
if facts[2] or tonumber(facts[1]) > tonumber(args.size) then return 'full' end
redis.call('HSET', batch, 'size', args.size)
complete_batch(args.scope)
return 1
