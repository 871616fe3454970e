-- include: delivery_queue
-- Queue the webhook of a completed batch. Answers 1, or 0 when another process has done it.
if redis.call('LREM', keys.completed_batches, 1, args.entry) == 0 then return 0 end
enqueue_delivery()
return 1
