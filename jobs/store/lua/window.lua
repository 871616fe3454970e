-- include: clock

-- A quota as a sliding window of 60 slices. What was used in a slice counts until all of the slice has left the window.
-- So no window of that length, wherever it begins, holds more than the quota.

-- Check that `cost` more fits, and take it if `charge`. Answers times in milliseconds: `wait` until the cost fits, -1
-- when it never will; `reset` until nothing of what was used counts any more.
local function window(key, span, limit, cost, charge)
  local slice = span / 60
  local current = math.floor(now / slice)
  local used, slices, fields = 0, {}, redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local number, amount = tonumber(fields[i]), tonumber(fields[i + 1])
    if number < current - 60 then
      redis.call('HDEL', key, fields[i])
    else
      used = used + amount
      slices[#slices + 1] = {number = number, amount = amount}
    end
  end
  table.sort(slices, function(a, b) return a.number < b.number end)
  local function until_gone(number) return (number + 61) * slice - now end
  local wait, freed = 0, 0
  if cost > limit then
    wait = -1
  elseif used + cost > limit then
    for _, each in ipairs(slices) do
      freed = freed + each.amount
      wait = until_gone(each.number)
      if used - freed + cost <= limit then break end
    end
  elseif charge then
    used = used + cost
    redis.call('HINCRBY', key, string.format('%d', current), string.format('%d', cost))
    redis.call('PEXPIRE', key, span + 2 * slice)
    if cost > 0 then slices[#slices + 1] = {number = current, amount = cost} end
  end
  local last = slices[#slices]
  return {limit = limit, used = used, wait = wait, reset = last and until_gone(last.number) or 0}
end
