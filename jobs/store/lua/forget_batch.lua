-- include: clock
-- include: batch
-- Forget a batch that has no jobs any more.
for _, count in pairs(batch_counts(args.scope)) do
  if count > 0 then return 0 end
end
return redis.call('DEL', string.format(keys.batch_pattern, args.scope))
