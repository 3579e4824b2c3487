-- Lists a session in its subject's index, and drops the entries whose time is over. The index ends
-- with its last entry.
--
-- KEYS[1] the index: a sorted set of session ids by until when each is listed, by the applications'
--         clocks, Unix milliseconds
-- ARGV[1] the session id
-- ARGV[2] until when it is listed; an entry that is listed for longer stays as it is
-- ARGV[3] what the application's clock says, Unix milliseconds

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
-- Over is what is over by both clocks, so that a clock which is far ahead drops nothing.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', math.min(now, ARGV[3])))

local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then
  local ahead = math.max(0, now - ARGV[3]) -- see create.lua
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.min(last[2] + ahead, 9e15))) -- see announce.lua
end
return 'OK'
