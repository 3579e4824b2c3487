-- Replaces a record, if it has the version before and is not revoked. A repeat of the write that replaced it is told
-- OK. Versions are compared as text: a Lua number holds no 64-bit integer.
--
-- KEYS[1]   the record
-- ARGV[1]   the version before
-- ARGV[2]   the new version
-- ARGV[3]   the new write_id
-- ARGV[4]   the subject
-- ARGV[5]   when Redis drops the record, Unix milliseconds
-- ARGV[6]   until when the subject's index lists it from now on, Unix milliseconds; empty: as before
-- ARGV[7..] the new fields, without indexed_until: name, value, name, value ...

local version, write_id, revoked_at, subject, indexed_until = unpack(
  redis.call('HMGET', KEYS[1], 'version', 'write_id', 'revoked_at', 'subject', 'indexed_until'))
if not (version and write_id and revoked_at and subject and indexed_until) then
  if redis.call('EXISTS', KEYS[1]) == 0 then
    return 'NOT_FOUND'
  end
  return 'DAMAGED'
end
if version == ARGV[2] and write_id == ARGV[3] then
  return 'OK'
end
if version ~= ARGV[1] or revoked_at ~= '' then
  return 'CONFLICT'
end
if ARGV[6] ~= '' then
  indexed_until = ARGV[6]
elseif subject ~= ARGV[4] or tonumber(ARGV[5]) > tonumber(indexed_until) then
  return 'UNINDEXED' -- the record would outlive its entry in the index: that one first
end

redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'indexed_until', indexed_until)
-- In parts, because Lua's unpack is limited to some thousand values.
for i = 7, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('PEXPIREAT', KEYS[1], ARGV[5])
return 'OK'
