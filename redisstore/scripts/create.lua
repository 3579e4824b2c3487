-- Adds a record, unless there is one. A repeat of the write that added it is told OK.
--
-- KEYS[1]   the record
-- ARGV[1]   its version
-- ARGV[2]   its write: what its data has from the third byte on, up to the end of the write ID
-- ARGV[3]   when Redis drops it, by the application's clock, Unix milliseconds
-- ARGV[4]   what the application's clock says, Unix milliseconds
-- ARGV[5]   the channel on which to say that a session was revoked, or empty
-- ARGV[6..] its fields: name, value, name, value ...

local version, subject, data = unpack(redis.call('HMGET', KEYS[1], 'version', 'subject', '0'))
if version and subject and data then
  if string.sub(data, 3, 4) ~= string.sub(ARGV[2], 1, 2) then
    return 'OTHER_FORMAT'
  end
  if version == ARGV[1] and string.sub(data, 3, 2 + #ARGV[2]) == ARGV[2] then
    return 'OK'
  end
  return 'EXISTS'
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'DAMAGED'
end

redis.call('HSET', KEYS[1], unpack(ARGV, 6))
-- If this server's clock is ahead, the record is dropped by as much later. Otherwise a server that
-- is ahead by a session's lifetime would drop every login as soon as it has acknowledged it.
local time = redis.call('TIME')
local ahead = math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[4])
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ARGV[3] + ahead))
if ARGV[5] ~= '' then
  redis.pcall('PUBLISH', ARGV[5], '') -- where that is not allowed, instances poll
end
return 'OK'
