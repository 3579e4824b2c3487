-- Replaces a record, if it has the version before and is not revoked. A repeat of the write that replaced it is told
-- OK. Versions are compared as text: a Lua number holds no 64-bit integer.
--
-- A refresh changes only some fields of a record. Its Swap sends those, and a digest of the others by which the script
-- sees that they are what they were.
--
-- KEYS[1]   the record
-- ARGV[1]   the version before
-- ARGV[2]   the new version
-- ARGV[3]   the new write_id
-- ARGV[4]   when Redis drops the record, Unix milliseconds
-- ARGV[5]   the digest of the fields that are not in ARGV[6..]; empty if all are
-- ARGV[6..] the new fields: name, value, name, value ...

local version, write_id, revoked_at, digest, indexed_until = unpack(
  redis.call('HMGET', KEYS[1], 'version', 'write_id', 'revoked_at', 'digest', 'indexed_until'))
if not (version and write_id and revoked_at and digest and indexed_until) then
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

-- DEL and PERSIST need no memory, and after one of them the script may write where memory is short: a refresh takes no
-- more of it.
if ARGV[5] == '' then
  redis.call('DEL', KEYS[1])
elseif digest ~= ARGV[5] or tonumber(ARGV[4]) > tonumber(indexed_until) then
  return 'INCOMPLETE' -- other fields change too, or the record would outlive its entry in the subject's index
else
  redis.call('PERSIST', KEYS[1])
end
-- In parts, because Lua's unpack is limited to some thousand values.
for i = 6, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 'OK'
