-- Drops revoked sessions from their subject's index: nobody needs them there. Only after an hour, so that a failover
-- which loses the revocation finds the session still listed, to be revoked again.
--
-- KEYS[1]   the index
-- ARGV[1..] session id, when it was revoked in Unix milliseconds, session id, ...

local time = redis.call('TIME')
local hour_ago = time[1] * 1000 - 3600000

for i = 1, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) < hour_ago then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 'OK'
