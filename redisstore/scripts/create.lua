-- Adds a record, unless there is one. A repeat of the write that added it is told OK.
--
-- KEYS[1]   the record
-- ARGV[1]   its write field
-- ARGV[2]   when Redis drops it, Unix milliseconds
-- ARGV[3..] its fields: name, value, name, value ...

local write = redis.call('HGET', KEYS[1], 'write')
if write == ARGV[1] then
  return 'OK'
end
if write then
  return 'EXISTS'
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'DAMAGED'
end

-- In parts, because Lua's unpack is limited to some thousand values.
for i = 3, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
return 'OK'
