-- include: window
-- Answers, as JSON, who makes a request and what the limits say.
-- Only a request with a valid key is charged for, so that nobody can use up another one's quota.
local answer = {locked = redis.call('EXISTS', keys.api_keys) == 1, queued = redis.call('ZCARD', keys.queued)}
local stored = redis.call('HMGET', keys.api_key, 'digest', 'revoked', 'limits')
-- No need for a comparison in constant time: how far a guess's SHA-256 agrees says nothing about the key.
if args.digest == '' or stored[1] ~= args.digest then return cjson.encode(answer) end
answer.revoked = stored[2] ~= ''
if answer.revoked then return cjson.encode(answer) end
answer.limits = stored[3]
local limits = cjson.decode(stored[3])
if limits.requests_per_minute ~= cjson.null then
  local most = limits.requests_per_minute
  answer.requests = window(keys.used_requests, tonumber(args.minute_ms), most, 1, args.charge == '1')
end
if limits.megapixels_per_hour ~= cjson.null then
  local most = limits.megapixels_per_hour * tonumber(args.megapixel)
  answer.pixels = window(keys.used_pixels, tonumber(args.hour_ms), most, 1, false)
end
answer.own_queued = redis.call('ZCARD', keys.own_queued)
answer.own_running = redis.call('ZCARD', keys.own_running)
return cjson.encode(answer)
