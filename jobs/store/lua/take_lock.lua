-- Take the janitor's lock for a while. Answers nothing when another process has it.
return redis.call('SET', keys.janitor_lock, '1', 'NX', 'PX', args.hold_ms)
