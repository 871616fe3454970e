-- Answers the secrets of an owner. Without any, the new one becomes the first.
if redis.call('EXISTS', keys.secrets) == 0 then redis.call('RPUSH', keys.secrets, args.new) end
return redis.call('LRANGE', keys.secrets, 0, -1)
