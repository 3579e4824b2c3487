-- Notes in the feed that a session is about to be revoked or outdated, and drops what is older than
-- the feed has to tell.
--
-- KEYS[1] the feed: a sorted set of session ids by the time of their revocation, by the applications'
--         clocks, Unix microseconds
-- ARGV[1] the session id
-- ARGV[2] the time of the revocation; a later one that is noted already stays as it is
-- ARGV[3] for how long the feed tells of a revocation, microseconds

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local keep = tonumber(ARGV[3])

redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
-- Old is what is old by both clocks. By the server's clock alone, a server that is ahead by a day
-- would drop each revocation as soon as it is noted.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', math.min(now, ARGV[2]) - keep))

-- An instance whose clock runs ahead notes a time to come: the feed keeps that for as long again. What
-- somebody has put there by hand may be no time at all, such as inf. That is an error in PEXPIREAT, and
-- no revocation must fail for it.
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then
  local ends = math.max(now, tonumber(last[2])) + keep
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.min(math.ceil(ends / 1000), 9e15)))
end
return 'OK'
