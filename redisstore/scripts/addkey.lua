-- Adds a signing key, if the one whose successor it is has none yet. Of a key that is there already it
-- replaces what is sealed, and no more.
--
-- KEYS[1] the keys: a hash of their ids
-- ARGV[1] the key's id
-- ARGV[2] the id of the key whose successor it is; '-' for the first one
-- ARGV[3] the key's fields but what is sealed: format, predecessor, algorithm, times
-- ARGV[4] what is sealed

local stored = redis.call('HGETALL', KEYS[1])
local known = ARGV[2] == '-' and #stored == 0
local taken = ARGV[2] == '-' and #stored > 0
for i = 1, #stored, 2 do
  local format, predecessor = string.match(stored[i + 1], '^(%S+) (%S+) ')
  if format ~= '1' then
    return 'OTHER_FORMAT'
  end
  if stored[i] == ARGV[1] then
    local fields = string.match(stored[i + 1], '^(.* )%S*$')
    redis.call('HSET', KEYS[1], ARGV[1], fields .. ARGV[4])
    return 'OK'
  end
  known = known or stored[i] == ARGV[2]
  taken = taken or (ARGV[2] ~= '-' and predecessor == ARGV[2])
end
if taken or not known then
  -- Confirms it: a server that is not the master, or not any more, refuses this write, which changes
  -- nothing. See swap.lua.
  redis.call('HDEL', KEYS[1], '-')
  return 'EXISTS'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[4])
return 'OK'
