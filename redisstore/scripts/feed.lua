-- Reads a part of the feed, if this server is the master. It is one command, because an instance that
-- waits for news asks again and again.
--
-- KEYS[1] the feed
-- ARGV[1] the earliest time, as ZRANGE has it
-- ARGV[2] the latest time
-- ARGV[3] how many entries at most; -1: all

-- Confirms it: see swap.lua. An instance that reads an old master, which hears of no revocation any
-- more, must not believe that there are none.
redis.call('ZREM', KEYS[1], 'no id')
return redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
