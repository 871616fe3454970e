-- include: window
-- Take `cost` off a quota if it fits; a negative cost gives back. Answers the quota's window as JSON.
return cjson.encode(window(keys.used, tonumber(args.span_ms), tonumber(args.limit), tonumber(args.cost), true))
