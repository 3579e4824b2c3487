-- Replaces a record, if it is the one that the application has read, and is not revoked. A repeat
-- of the write that replaced it is told OK.
--
-- Versions are compared as text, because a Lua number holds no 64-bit integer. The write ID is
-- compared too: after a failover that lost writes, another write can have made the same version.
--
-- KEYS[1]   the record
-- ARGV[1]   the version that is replaced
-- ARGV[2]   the write that is replaced: what its data has from the third byte on, up to the end of the
--           write ID
-- ARGV[3]   the new version
-- ARGV[4]   the new write
-- ARGV[5]   when Redis drops the record, by the application's clock, Unix milliseconds
-- ARGV[6]   what the application's clock says, Unix milliseconds
-- ARGV[7]   '1' if the subject's index and the feed have what the new record needs; otherwise the
--           script looks whether they do
-- ARGV[8]   the channel on which to say that a session was revoked or outdated, or empty
-- ARGV[9]   the new subject
-- ARGV[10]  the new field outdated, or empty
-- ARGV[11]  the new field 0, which begins with two bytes that say how the index lists the record
-- ARGV[12]  the name of the first piece of data that the new record does not have
-- ARGV[13..] all new fields but the subject: name, value, name, value ...

local version, subject, revoked_at, outdated, data, surplus = unpack(
  redis.call('HMGET', KEYS[1], 'version', 'subject', 'revoked_at', 'outdated', '0', ARGV[12]))
if not (version and subject and data) then
  if redis.call('EXISTS', KEYS[1]) == 0 then
    -- Confirms it: a server that is not the master, or not any more, refuses this write, which changes
    -- nothing and needs no memory. See Store.Load.
    redis.call('HDEL', KEYS[1], 'no field')
    return 'NOT_FOUND'
  end
  return 'DAMAGED'
end
if string.sub(data, 3, 4) ~= string.sub(ARGV[4], 1, 2) then
  return 'OTHER_FORMAT'
end
if version == ARGV[3] and string.sub(data, 3, 2 + #ARGV[4]) == ARGV[4] then
  return 'OK'
end
if version ~= ARGV[1] or revoked_at or string.sub(data, 3, 2 + #ARGV[2]) ~= ARGV[2] then
  return 'CONFLICT'
end
if ARGV[7] ~= '1' and (subject ~= ARGV[9] or (outdated or '') ~= ARGV[10] or
    string.sub(data, 1, 2) ~= string.sub(ARGV[11], 1, 2)) then
  return 'INCOMPLETE'
end

-- The key is never deleted, not even to be written anew at once: while its slot moves to another
-- node of a Cluster, this node would refuse to write it again.
if type(redis.pcall('HSET', KEYS[1], unpack(ARGV, 13))) == 'table' then -- an error: is memory short?
  -- PERSIST needs no memory, and after a write the script may go on. A refresh takes about what it frees.
  redis.call('PERSIST', KEYS[1])
  redis.call('HSET', KEYS[1], unpack(ARGV, 13))
end
if subject ~= ARGV[9] then
  redis.call('HSET', KEYS[1], 'subject', ARGV[9])
end
if outdated and ARGV[10] == '' then
  redis.call('HDEL', KEYS[1], 'outdated')
end
local piece = tonumber(ARGV[12])
while surplus and redis.call('HDEL', KEYS[1], piece) == 1 do -- the old record was longer
  piece = piece + 1
end
local time = redis.call('TIME')
local ahead = math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[6]) -- see create.lua
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ARGV[5] + ahead))
if ARGV[8] ~= '' then
  redis.pcall('PUBLISH', ARGV[8], '') -- where that is not allowed, instances poll
end
return 'OK'
