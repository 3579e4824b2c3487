-- Replaces a record, if it has the version before and is not revoked. A repeat of the write that replaced it is told
-- OK. Versions are compared as text: a Lua number holds no 64-bit integer.
--
-- A refresh changes only some fields of a record. Its Swap sends those, and a digest of the others by which the script
-- sees that they are what they were.
--
-- KEYS[1]   the record
-- ARGV[1]   how its write field has to begin: with the version before
-- ARGV[2]   the new write field: version and write ID
-- ARGV[3]   when Redis drops the record, Unix milliseconds
-- ARGV[4]   the digest of the fields that are not in ARGV[6..]; empty if all are
-- ARGV[5]   when the record was last created or refreshed, Unix milliseconds
-- ARGV[6..] the new fields: name, value, name, value ...

-- Whether the record would outlive its entry in the subject's index, or the time has come to write that anew.
local function entry_is_due(indexed)
  local listed_until, renew_by = string.match(indexed, '^(%d+) (%-?%d+)$')
  return not listed_until or tonumber(ARGV[3]) > tonumber(listed_until) or tonumber(ARGV[5]) > tonumber(renew_by)
end

local write, revoked_at, digest, indexed = unpack(
  redis.call('HMGET', KEYS[1], 'write', 'revoked_at', 'digest', 'indexed'))
if not (write and revoked_at and digest and indexed) then
  if redis.call('EXISTS', KEYS[1]) == 0 then
    return 'NOT_FOUND'
  end
  return 'DAMAGED'
end
if write == ARGV[2] then
  return 'OK'
end
if string.sub(write, 1, #ARGV[1]) ~= ARGV[1] or revoked_at ~= '' then
  return 'CONFLICT'
end

if ARGV[4] == '' then
  redis.call('DEL', KEYS[1]) -- needs no memory, and after it the script may write where memory is short
  -- In parts, because Lua's unpack is limited to some thousand values.
  for i = 6, #ARGV, 1000 do
    redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
elseif digest ~= ARGV[4] or entry_is_due(indexed) then
  return 'INCOMPLETE' -- other fields change too, or the entry in the subject's index
elseif type(redis.pcall('HSET', KEYS[1], unpack(ARGV, 6))) == 'table' then -- an error: is memory short?
  redis.call('PERSIST', KEYS[1]) -- as DEL above; a refresh takes no more memory than there is
  redis.call('HSET', KEYS[1], unpack(ARGV, 6))
end
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 'OK'
